"""`POST /api/v1/activity`."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import httpx
import pytest

from tests.server.running import DEADLINE, ServerProcess, eventually

# One server a module, and a module a process.

PATH = "/api/v1/activity"
ONE = {"accepted": 1, "rejected": 0, "dropped": 0}


def last_seen_of(server: ServerProcess, client_id: str) -> str:
    answer = server.http.get(f"/api/v1/clients/{client_id}")
    assert answer.status_code == 200, answer.text
    return str(answer.json()["last_seen_at"])


def test_one_object_is_recorded_at_its_arrival(server: ServerProcess) -> None:
    """Without a time, the client was active when the request arrived."""
    before = datetime.now(UTC)
    answer = server.http.post(PATH, json={"client_id": "one"})
    assert (answer.status_code, answer.json()) == (202, ONE)
    assert before <= datetime.fromisoformat(last_seen_of(server, "one")) <= datetime.now(UTC)


@pytest.mark.parametrize(
    "at",
    [
        1_700_000_000,
        1_700_000_000.0,
        1_700_000_000_000,
        1_700_000_000_000.0,
        1_700_000_000_000_000,
        1_700_000_000_000_000_000,
        "2023-11-14T22:13:20Z",
        "2023-11-15T00:13:20+02:00",
        "2023-11-14 22:13:20+00",
    ],
)
def test_a_time_is_a_number_of_seconds_or_parts_or_iso_with_an_offset(server: ServerProcess, at: object) -> None:
    """Every spelling of a moment records that moment, alone and among many."""
    assert server.http.post(PATH, json={"client_id": f"at {at}", "at": at}).json() == ONE
    assert last_seen_of(server, f"at {at}") == "2023-11-14T22:13:20Z"
    assert server.http.post(PATH, json=[{"client_id": f"among {at}", "at": at}]).json() == ONE
    assert last_seen_of(server, f"among {at}") == "2023-11-14T22:13:20Z"


@pytest.mark.parametrize(
    ("written", "client_id"),
    [("42", "42"), ("-7", "-7"), ("1.50", "1.50"), ("12345678901234567890", "12345678901234567890")],
)
def test_a_number_is_its_decimal_text(server: ServerProcess, written: str, client_id: str) -> None:
    """A client id that is a number is kept as it was written."""
    answer = server.http.post(PATH, content=f'{{"client_id": {written}}}', headers={"content-type": "application/json"})
    assert answer.json() == ONE
    assert last_seen_of(server, client_id)


def test_json_that_curl_calls_a_form_is_json(server: ServerProcess) -> None:
    """One or many; what is a form is refused with what to send."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert server.http.post(PATH, content='{"client_id": "curl 1"}', headers=form).json() == ONE
    assert server.http.post(PATH, content=' [{"client_id": "curl 2"}]', headers=form).json() == ONE
    assert last_seen_of(server, "curl 1")
    assert last_seen_of(server, "curl 2")
    refused = server.http.post(PATH, content="client_id=curl", headers=form)
    assert (refused.status_code, "application/json" in refused.json()["detail"]) == (415, True)


def test_an_array_is_recorded_item_by_item(server: ServerProcess) -> None:
    """One bad item is told with its index and its reason, and spoils no other."""
    items = [
        {"client_id": "a1"},
        {"at": 5},
        7,
        {"client_id": "a2", "at": "2020-01-01"},
        {"client_id": "a3", "more": {}},
    ]
    answer = server.http.post(PATH, json=items)
    assert answer.status_code == 202
    body = answer.json()
    assert (body["accepted"], body["rejected"], body["dropped"]) == (2, 3, 0)
    assert [error["index"] for error in body["errors"]] == [1, 2, 3]
    assert "client_id is missing" in body["errors"][0]["reason"]
    assert "offset" in body["errors"][2]["reason"]
    assert last_seen_of(server, "a3")


def test_only_ten_errors_are_shown(server: ServerProcess) -> None:
    """However many are rejected, the answer stays small and the count is right."""
    body = server.http.post(PATH, json=[{}] * 2_500).json()
    assert body["rejected"] == 2_500
    assert len(body["errors"]) == 10


@pytest.mark.parametrize("media_type", ["application/x-ndjson", "text/plain; charset=utf-8", "application/jsonl"])
def test_lines_are_recorded_one_by_one(server: ServerProcess, media_type: str) -> None:
    """Empty lines mean nothing, a bad line is told with its number, the last line needs no line feed."""
    lines = b'{"client_id": "l1"}\r\n\n not json\n{"client_id": "l2", "at": 5}'
    body = server.http.post(PATH, content=lines, headers={"content-type": media_type}).json()
    assert (body["accepted"], body["rejected"]) == (2, 1)
    assert body["errors"][0]["line"] == 3


def test_lines_are_recorded_while_the_stream_goes_on(server: ServerProcess) -> None:
    """A client that streams for hours is seen while it streams: a line counts as soon as it has arrived."""

    def stream() -> Iterator[bytes]:
        yield b'{"client_id": "early"}\n{"client_id": "la'
        with httpx.Client(base_url=server.address, timeout=DEADLINE) as other:
            eventually(lambda: other.get("/api/v1/clients/early").status_code == 200, "the first line is recorded")
        yield b'te"}\n'

    answer = server.http.post(PATH, content=stream(), headers={"content-type": "application/x-ndjson"})
    assert answer.json() == {"accepted": 2, "rejected": 0, "dropped": 0}


def test_a_line_over_its_limit_is_rejected_alone(server: ServerProcess) -> None:
    """A line of more than 64 KiB is counted once, wherever the pieces of the stream end, and the next one counts."""
    long = b'{"client_id": "' + b"x" * 200_000 + b'"}'
    lines = long + b'\n{"client_id": "after"}\n' + long
    body = server.http.post(PATH, content=lines, headers={"content-type": "application/x-ndjson"}).json()
    assert (body["accepted"], body["rejected"]) == (1, 2)
    assert [error["line"] for error in body["errors"]] == [1, 3]


@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
def test_the_query_names_the_client_of_items_that_have_none(server: ServerProcess, media_type: str) -> None:
    """The item's own client comes first; what is neither a text nor a number names no client."""
    answer = server.http.post(
        f"{PATH}?client_id=from%20query", content=b'{"client_id": null}', headers={"content-type": media_type}
    )
    assert answer.json() == ONE
    assert last_seen_of(server, "from query")


def test_an_empty_body_with_a_client_in_the_query_is_one_touch(server: ServerProcess) -> None:
    """The shortest way to say it needs no body at all."""
    assert server.http.post(f"{PATH}?client_id=short").json() == ONE
    assert last_seen_of(server, "short")


@pytest.mark.parametrize(
    ("name", "body"),
    [("words", b"hello\nworld"), ("blank", b"\n \n"), ("pieces", [b" ", b"\n", b"hello", b"{}\n"]), ("number", b"7")],
)
def test_a_text_is_one_touch_of_the_client_in_the_query(
    server: ServerProcess, name: str, body: bytes | list[bytes]
) -> None:
    """Whatever it says; the middleware takes it as this does."""
    content = body if isinstance(body, bytes) else iter(body)
    answer = server.http.post(
        f"{PATH}?client_id=text%20{name}", content=content, headers={"content-type": "text/plain"}
    )
    assert answer.json() == ONE
    assert last_seen_of(server, f"text {name}")


def test_a_text_without_a_client_and_lines_that_are_none_are_rejected(server: ServerProcess) -> None:
    """The negative control: nobody is named, or the body says that it is lines, or begins as such."""
    words = server.http.post(PATH, content=b"hello", headers={"content-type": "text/plain"})
    lines = server.http.post(
        f"{PATH}?client_id=nobody", content=b"hello", headers={"content-type": "application/x-ndjson"}
    )
    begun = server.http.post(f"{PATH}?client_id=nobody", content=b"\n{no", headers={"content-type": "text/plain"})
    assert [answer.json()["rejected"] for answer in (words, lines, begun)] == [1, 1, 1]
    assert server.http.get("/api/v1/clients/nobody").status_code == 404


def test_a_gzip_body_is_read(server: ServerProcess) -> None:
    """Compressed bodies of both kinds are read, of several gzip members too."""
    headers = {"content-encoding": "gzip"}
    lines = gzip.compress(b'{"client_id": "z1"}\n') + gzip.compress(b'{"client_id": "z2"}\n')
    answer = server.http.post(PATH, content=lines, headers={**headers, "content-type": "text/plain"})
    assert answer.json()["accepted"] == 2
    document = gzip.compress(json.dumps([{"client_id": "z3"}] * 5_000).encode())
    answer = server.http.post(PATH, content=document, headers={**headers, "content-type": "application/json"})
    assert answer.json()["accepted"] == 5_000


JSON = {"content-type": "application/json"}
LINES = {"content-type": "application/x-ndjson"}
GZIP = {"content-encoding": "gzip"}


# Bombs are made where they are needed: every process of the tests reads this list.
UNREADABLE: dict[str, tuple[int, bytes | Callable[[], bytes], dict[str, str]]] = {
    "empty": (400, b"", JSON),
    "cut": (400, b"{", JSON),
    "form": (400, b"client_id=a", JSON),
    "text": (400, b'"text"', JSON),
    "trailing": (400, b'{"client_id": "a"} trailing', JSON),
    "not UTF-8": (400, b'{"client_id": "\xff"}', JSON),
    "deep": (400, b"[" * 100_000, JSON),
    "not gzip": (400, b"not gzip", {**JSON, **GZIP}),
    "gzip cut": (400, gzip.compress(b'{"client_id": "cut"}' * 100)[:-20], {**LINES, **GZIP}),
    "large": (413, b" " * (10 * 1024 * 1024 + 1), JSON),
    "bomb": (413, lambda: gzip.compress(b" " * 200_000_000, 1), {**JSON, **GZIP}),
    "bomb of lines": (413, lambda: gzip.compress((b" " * 60_000 + b"\n") * 3_000, 1), {**LINES, **GZIP}),
    "other type": (415, b"client_id=a", {"content-type": "application/x-www-form-urlencoded"}),
    "other encoding": (415, b"{}", {**JSON, "content-encoding": "br"}),
}


@pytest.mark.parametrize(("status", "content", "headers"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_cannot_be_read_is_refused(
    server: ServerProcess, status: int, content: bytes | Callable[[], bytes], headers: dict[str, str]
) -> None:
    """The answer is problem details that say what is wrong; the server goes on."""
    body = content if isinstance(content, bytes) else content()
    answer = server.http.post(PATH, content=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.json()["detail"]
    assert server.http.post(PATH, json={"client_id": "still here"}).json() == ONE


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_only_post_is_allowed(server: ServerProcess, method: str) -> None:
    """Another method is answered 405 with the one that is."""
    answer = server.http.request(method, PATH)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_client_that_leaves_keeps_what_it_had_sent(server: ServerProcess) -> None:
    """A chunked body that breaks off keeps its whole lines; the broken one is no activity, and nothing fails."""
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        line = b'{"client_id": "left"}\n{"client_id": "half'
        raw.sendall(head.encode() + f"{len(line):x}\r\n".encode() + line + b"\r\n")
        eventually(lambda: server.http.get("/api/v1/clients/left").status_code == 200, "the whole line is recorded")
    assert server.http.get("/api/v1/clients/half").status_code == 404
    assert "Traceback" not in server.log


def test_the_same_activity_sent_again_changes_nothing(server: ServerProcess) -> None:
    """Repeats, older times and any order give the same: the newest time wins."""
    for at in (500, 900, 100, 900):
        server.http.post(PATH, json={"client_id": "again", "at": at})
    assert last_seen_of(server, "again") == "1970-01-01T00:15:00Z"
