"""Bodies of the JSON API that are no JSON, whatever else they are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lastseen.server.api.openapi import operations
from tests.server.running import ServerProcess

BODIES = {
    "not UTF-8": b'{"id": "\xff", "name": "x", "domains": [], "scopes": []}',
    "half of a pair": b'{"id": "\xed\xa0\x80", "name": "\xed\xa0\x80"}',
    "not UTF-8 where nobody looks": b'{"unknown": "\xff"}',
    "too deep": b'{"id": "d", "properties": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "deep and cut": b"[" * 60_000,
    "no text": b"\xff\xfe\x00",
    "cut": b'{"id": "d',
    "nothing": b"",
    "another form": b"id=d&name=x",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server of their own: what it logs must not be a defect."""
    with ServerProcess(tmp_path_factory.mktemp("bodies"), None, "--rate-limit", "0") as process:
        yield process


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_every_operation_refuses_what_is_no_json(server: ServerProcess, body: bytes) -> None:
    """400 with the reason from each operation that takes a body; never a 500, which is logged as a defect."""
    document = server.http.get("/api/v1/openapi.json").json()
    asked = 0
    for path, method, _, operation in operations(document["paths"]):
        if "requestBody" in operation and path not in {"/api/v1/events", "/api/v1/activity"}:
            answer = server.http.request(
                method,
                path.replace("{", "").replace("}", ""),
                content=body,
                headers={"content-type": "application/json"},
            )
            assert answer.status_code == 400, (method, path, answer.text)
            assert answer.json()["detail"]
            asked += 1
    assert asked >= 6
    assert "unexpectedly" not in server.log
