"""What these pages ask of a request, and which field of a form they find wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any
from urllib.parse import urlencode

from litestar import Controller
from litestar.enums import RequestEncodingType
from litestar.params import Body

from lastseen.activity.key import key_problem
from lastseen.app import LastSeen
from lastseen.devices.device import Group
from lastseen.devices.store import MAX_PAGE
from lastseen.errors import AlreadyExists, ConfigurationError, InvalidValue, LastSeenError, NotFound
from lastseen.server.pages.frame import AnyRequest, show, show_problem
from lastseen.server.pages.live import Page
from lastseen.server.problem import Problem
from lastseen.server.rights import Principal
from lastseen.visits.site import SiteExists

Form = Annotated[dict[str, str], Body(media_type=RequestEncodingType.URL_ENCODED)]

MAX_FORM = 64 * 1024
"""The properties of a device are 16 KB, three times that in a form."""


class WrongField(LastSeenError):
    """Something that was typed cannot be; `field` is the name of the field."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Pages(Controller):
    """What is the same for all of these pages."""

    include_in_schema = False
    exception_handlers = {Exception: show_problem}  # noqa: RUF012 - Litestar's own way
    request_max_body_size = MAX_FORM


@contextmanager
def checking(field: str) -> Iterator[None]:
    """Say of which field it is what the block finds wrong."""
    try:
        yield
    except (InvalidValue, ConfigurationError, NotFound, AlreadyExists, SiteExists) as error:
        words = str(error)
        raise WrongField(field, f"{words[:1].upper()}{words[1:]}.") from error


def show_form(request: AnyRequest, template: str, problem: WrongField | None, **context: Any) -> Page:
    """Show a page with a form; 422 when a field is wrong."""
    return show(request, template, status=200 if problem is None else 422, problem=problem, **context)


def checked_id(id: str, what: str) -> str:  # noqa: A002 - its name in the address
    """Return the id that the address names; 404 for what can be none."""
    if key_problem(id) is not None:
        raise Problem(404, f"there is no such {what}")
    return id


def groups_of(seen: LastSeen, principal: Principal) -> tuple[Group, ...]:
    """Return the groups that can be chosen: the first thousand, or the one that everything is limited to."""
    return seen.devices.list_groups(limit=MAX_PAGE, within=principal.within).groups


def find_group(seen: LastSeen, principal: Principal, group_id: str) -> Group:
    """Return a group; 404 when it is not there for this principal."""
    group = seen.devices.get_group(checked_id(group_id, "group"), within=principal.within)
    if group is None:
        raise Problem(404, "there is no such group")
    return group


def address(path: str, fields: Mapping[str, str | None]) -> str:
    """Return an address with what is set of the fields."""
    query = urlencode({name: value for name, value in fields.items() if value})
    return f"{path}?{query}" if query else path
