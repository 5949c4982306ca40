"""Who may ask: pages of other sites in a browser on the same machine may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastseen.errors import ConfigurationError
from lastseen.server.running import require_loopback
from tests.server.running import ServerProcess

# One server a module, and a module a process.

ACTIVITY = "/api/v1/activity?client_id=gate"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]", "LOCALHOST:80"])
def test_loopback_names_are_answered(server: ServerProcess, host: str) -> None:
    """Every name of this machine, with any port and in any case."""
    assert server.http.get("/health/live", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "[", "a b"]
)
@pytest.mark.parametrize("path", ["/", "/api/v1/clients", "/health/live", "/metrics"])
def test_another_host_is_refused(server: ServerProcess, host: str, path: str) -> None:
    """A name that was pointed at this machine (DNS rebinding) gets no data, on no route."""
    answer = server.http.get(path, headers={"host": host})
    assert answer.status_code in {400, 421}
    assert "clients" not in answer.text
    assert server.http.post(ACTIVITY, headers={"host": host}).status_code in {400, 421}


def test_allowed_hosts_are_answered(tmp_path: Path) -> None:
    """The name of a reverse proxy can be allowed; the loopback names stay."""
    with ServerProcess(tmp_path, None, "--allowed-hosts", "seen.example.org") as server:
        assert server.http.get("/health/live", headers={"host": "seen.example.org"}).status_code == 200
        assert server.http.get("/health/live").status_code == 200
        assert server.http.get("/health/live", headers={"host": "other.example.org"}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ],
)
def test_a_page_of_another_site_may_not_write(server: ServerProcess, headers: dict[str, str]) -> None:
    """A browser says where a request comes from; such a write is refused before anything is recorded."""
    answer = server.http.post("/api/v1/activity?client_id=forged", headers=headers)
    assert answer.status_code == 403
    assert server.http.get("/api/v1/clients/forged").status_code == 404


def test_programs_and_own_pages_may_write(server: ServerProcess) -> None:
    """The negative control: what is no browser, and a page of this server, are let through."""
    own = {"origin": server.address, "host": server.address.removeprefix("http://")}
    for headers in ({}, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}, own):
        assert server.http.post(ACTIVITY, headers=headers).status_code == 202


def test_pages_come_with_strict_headers(server: ServerProcess) -> None:
    """No inline script or style, no third party, no guessing of types, nothing kept in caches, no referrer."""
    answer = server.http.get("/")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "10.0.0.1"])
def test_only_loopback_may_be_listened_on(host: str) -> None:
    """Without an account any other address is refused, with the reason and what to do first."""
    with pytest.raises(ConfigurationError, match=r"no account yet.*set-up on a loopback address.*SSH tunnel"):
        require_loopback(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"])
def test_loopback_may_be_listened_on(host: str) -> None:
    """The negative control."""
    require_loopback(host)
