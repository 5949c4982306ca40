"""The server does what its OpenAPI document says, and never fails: good and bad requests made from the document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, Config, GenerationMode
from schemathesis.core import NOT_SET
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import ignored_auth, negative_data_rejection

from tests.server import people
from tests.server.described import Operation, all_operations, document
from tests.server.running import ServerProcess

# One server a module, and a module a process.

OPERATIONS = all_operations()
EXAMPLES = 4
MANY = 200

CASES = [
    pytest.param(operation, mode, id=f"{operation.id}-{mode.value}")
    for operation in OPERATIONS
    for mode in GenerationMode
    # What takes no parameter, takes no wrong one.
    if mode is GenerationMode.POSITIVE or operation.needs
]


@pytest.fixture(scope="module")
def unlimited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server that has an administrator, and lets anybody ask as often as they like."""
    with ServerProcess(tmp_path_factory.mktemp("schema"), None, "--rate-limit", "0") as process:
        admin = people.set_up(process)
        scopes = sorted({scope for operation in OPERATIONS for scope in operation.needs})
        made = admin.post("/api/v1/keys", json={"name": "everything", "scopes": scopes})
        assert made.status_code == 201, made.text
        process.http.headers["authorization"] = f"Bearer {made.json()['secret']}"
        session = admin.cookies["lastseen"]
        process.http.cookies.set("lastseen", session)
        admin.close()
        yield process


# The document cannot say which texts are spans, moments to come, names of hosts, or cursors that a listing returned.
KNOWN = {"within": "7d", "active_within": "1h30m", "inactive_for": "90s", "cursor": None} | {
    "filter": ["page:contains:/"],
    "last": "7d",
    "time_zone": "Europe/Berlin",
}
AS_REPORTS = {"filter", "last", "time_zone"}
"""With one of these, visits are those that a report counts, whose days must be in order, and which knows no others."""
# What is printable is a question to Unicode, which patterns cannot ask.
ASCII = {"generation": {"codec": "ascii", "allow-x00": False}}


def strategy_of(operation: Operation, mode: GenerationMode) -> Any:
    is_positive = mode is GenerationMode.POSITIVE
    schema = schemathesis.openapi.from_dict(document(), config=Config.from_dict(ASCII if is_positive else {}))
    return schema[operation.path][operation.method].as_strategy(generation_mode=mode)


def run_cases(server: ServerProcess, operation: Operation, mode: GenerationMode, examples: int) -> None:
    """Send requests and check each answer against the document."""
    headers = {"authorization": server.http.headers["authorization"], "sec-fetch-site": "same-origin"}
    if not operation.needs:
        headers["cookie"] = f"lastseen={server.http.cookies['lastseen']}"

    is_good = mode is GenerationMode.POSITIVE
    # It repeats the request without what it knows to be credentials, but these are not of its making; see
    # test_every_route.py for all of that.
    without = [ignored_auth]
    if operation.id == "RecordActivity":
        # What cannot be recorded is counted, and spoils nothing else of the same request.
        without.append(negative_data_rejection)

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy_of(operation, mode))
    def check(case: Case[Any]) -> None:
        if operation.id == "RecordActivity" and (is_good or case.body is NOT_SET):
            # Somebody must be named, in the body or there; the document cannot say so.
            case.query["client_id"] = "till-7"
        if is_good:
            make_known(case)
        case.call_and_validate(base_url=server.address, headers=headers, excluded_checks=without)

    check()


def make_known(case: Case[Any]) -> None:
    """Replace what only looks as if it could be."""
    name_hosts(case.body)
    for name, value in KNOWN.items():
        if name in case.query:
            case.query[name] = value
            if value is None:
                del case.query[name]
    if case.path == "/api/v1/visits" and AS_REPORTS & case.query.keys():
        for name in {"from", "to", "visitor", "start_reason", "entry", "order"} & case.query.keys():
            del case.query[name]
    for name in {"from", "to"} & case.query.keys():
        case.query[name] = "2026-01-31T00:00:00Z"
    if case.headers:
        # It would be used again for another request, which is refused.
        case.headers.pop("idempotency-key", None)
    if isinstance(case.body, dict) and case.path == "/api/v1/keys":
        # A key has one owner at most, and not every scope goes with every owner.
        owners = [name for name in ("device_id", "group_id", "site_id") if case.body.get(name) is not None]
        for owner in owners if "scopes" in case.body else owners[1:]:
            del case.body[owner]
    if isinstance(case.body, dict) and "properties" in case.body:
        case.body["properties"] = {"floor": [3, None], "rooms": {"kitchen": 1.5}}
    if isinstance(case.body, dict) and case.body.get("expires_at") is not None:
        case.body["expires_at"] = "2100-01-01T00:00:00Z"


def name_hosts(part: Any) -> None:
    if isinstance(part, dict):
        for name in {"domains", "excluded_referrers"} & part.keys():
            part[name] = ["example.org"]
        name_hosts(part.get("rule"))


@pytest.mark.hypothesis
@pytest.mark.parametrize(("operation", "mode"), CASES)
def test_answers_are_as_described(unlimited: ServerProcess, operation: Operation, mode: GenerationMode) -> None:
    """Whatever fits the document is taken, whatever does not is refused, each with an answer that it describes."""
    run_cases(unlimited, operation, mode, EXAMPLES)
    assert "Traceback" not in unlimited.log


@pytest.mark.faults
@pytest.mark.hypothesis
@pytest.mark.parametrize(("operation", "mode"), CASES)
def test_many_answers_are_as_described(unlimited: ServerProcess, operation: Operation, mode: GenerationMode) -> None:
    """The same for long."""
    run_cases(unlimited, operation, mode, MANY)
    assert "Traceback" not in unlimited.log


def test_a_field_may_be_called_like_a_part_of_the_server(unlimited: ServerProcess) -> None:
    """A wrong one is the client's mistake, and named, whatever its name."""
    for field, value in (("seen", None), ("name", 5)):
        answer = unlimited.http.post("/api/v1/devices", json={"id": "a", field: value})
        assert (answer.status_code, answer.json()["parameter"]) == (400, field), answer.text
        assert "Expected" in answer.json()["detail"]


def test_a_server_that_says_something_else_is_noticed(unlimited: ServerProcess) -> None:
    """The negative control: with another type in its schema, the answer of a listing is a violation."""
    wrong = msgspec.json.decode(msgspec.json.encode(document()))
    wrong["components"]["schemas"]["GroupList"]["properties"]["groups"] = {"type": "integer"}
    operation: Any = schemathesis.openapi.from_dict(wrong)["/api/v1/groups"]["GET"]
    with pytest.raises(FailureGroup, match="Response violates schema"):
        operation.Case().call_and_validate(
            base_url=unlimited.address,
            headers={"authorization": unlimited.http.headers["authorization"]},
            excluded_checks=[ignored_auth],
        )
