"""Who is the same visitor: from links between ids to visitors. Pure.

Links only ever grow in number, and the visitors are a function of the *set* of links: it does not matter in which order
they became known. So a late link may take back what a later one had joined.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from lastseen.visits.event import ALIAS, IDENTIFY, MAX_ID_LENGTH, Event

JUNK_IDS = frozenset(
    {
        "",
        "0",
        "$posthog_cookieless",
        "[object object]",
        "anonymous",
        "distinct_id",
        "distinctid",
        "email",
        "false",
        "guest",
        "id",
        "nan",
        "none",
        "not_authenticated",
        "null",
        "true",
        "undefined",
    }
)
"""What broken clients send instead of an id, in lower case: whoever joined by one of these would be everybody."""
_ANONYMOUS_ID = "$anon_distinct_id"
_ALIAS = "alias"


class Link(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event's statement that two ids are the same visitor, or only that an id is a known user."""

    at: int
    """When it was said, microseconds since 1970 UTC."""
    event_id: str
    one: str
    """The event's distinct id."""
    other: str | None = None
    """None where nothing is joined."""
    is_known: bool = False
    """Whether `one` is a known user."""

    @property
    def order(self) -> tuple[int, str]:
        """The order in which links are applied."""
        return self.at, self.event_id

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids that it speaks of."""
        return (self.one,) if self.other is None else (self.one, self.other)


def is_junk(visitor_id: str) -> bool:
    """Return whether an id is none: a placeholder, blank or too long. Nothing is joined by it."""
    return visitor_id.strip().strip("\"'").casefold() in JUNK_IDS or len(visitor_id) > MAX_ID_LENGTH


def link_of(event: Event) -> Link | None:
    """Return what an event says about identity, or None; naming a group says nothing.

    `$identify` names a known user and the id that was used before. `$create_alias` has two ids, and clients do not
    agree which of them comes first, so it says only that they are the same.
    """
    if event.name == IDENTIFY:
        other = event.properties.get(_ANONYMOUS_ID)
    elif event.name == ALIAS:
        other = event.properties.get(_ALIAS)
    else:
        return None
    if is_junk(event.distinct_id):
        return None
    is_known = event.name == IDENTIFY
    if not isinstance(other, str) or is_junk(other) or other == event.distinct_id:
        if not is_known:
            return None
        other = None
    return Link(at=event.at, event_id=event.id, one=event.distinct_id, other=other, is_known=is_known)


def resolve(links: Iterable[Link]) -> dict[str, str]:
    """Return the visitor of every id that a link speaks of; any other id is its own visitor.

    Links are applied by (moment, event id); one that would join two known users is refused, and a user whom any of the
    links names is known from the beginning. A visitor is called by its known user, else by its smallest id. To resolve
    some ids it is enough to give all links that hang together with them, refused ones too.
    """
    groups = _Groups(links)
    return {each: groups.visitor_of(each) for each in groups.ids()}


def refused(links: Iterable[Link]) -> dict[str, str]:
    """Return, by the event id of each refused identification, the known user whom the other id belongs to.

    The fold takes it as `others`: a visit that begins there is another user's on the same device.
    """
    groups = _Groups(links)
    return {
        link.event_id: groups.visitor_of(link.other)
        for link in groups.refused
        if link.is_known and link.other is not None
    }


class _Groups:
    """Disjoint sets of ids, joined link by link."""

    def __init__(self, links: Iterable[Link]) -> None:
        ordered = sorted(links, key=lambda link: (link.at, link.event_id))
        self._parents: dict[str, str] = {each: each for link in ordered for each in link.ids}
        self._names = dict(self._parents)
        self._known = {link.one: link.one for link in ordered if link.is_known}
        self.refused = [link for link in ordered if not self._join(link)]

    def ids(self) -> Iterable[str]:
        """Return every id that a link speaks of."""
        return self._parents

    def visitor_of(self, each: str) -> str:
        """Return by which id the group of an id is called."""
        root = self._root(each)
        return self._known.get(root, self._names[root])

    def _join(self, link: Link) -> bool:
        if link.other is None:
            return True
        one, other = self._root(link.one), self._root(link.other)
        if one == other:
            return True
        if one in self._known and other in self._known:
            return False
        self._parents[other] = one
        self._names[one] = min(self._names[one], self._names[other])
        if other in self._known:
            self._known[one] = self._known.pop(other)
        return True

    def _root(self, each: str) -> str:
        """Return what stands for the group, and shorten the way there for the next one."""
        parents = self._parents
        while parents[each] != each:
            parents[each] = parents[parents[each]]
            each = parents[each]
        return each


def members(visitors: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the ids of each visitor, in order, from what `resolve` returned."""
    found: dict[str, list[str]] = {}
    for each in sorted(visitors):
        found.setdefault(visitors[each], []).append(each)
    return found
