"""Who is the same visitor: links, refusals, and that the order of arrival does not matter."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from lastseen.visits.event import ALIAS, GROUP_IDENTIFY, IDENTIFY
from lastseen.visits.identity import Link, is_junk, link_of, members, refused, resolve
from tests.visits.streams import event


def identify(user: str, anonymous: str | None, at: int = 0, event_id: str | None = None) -> Link:
    """Return what `$identify` says."""
    return Link(at=at, event_id=event_id or f"e{at}", one=user, other=anonymous, is_known=True)


def alias(one: str, other: str, at: int = 0) -> Link:
    """Return what `$create_alias` says."""
    return Link(at=at, event_id=f"e{at}", one=one, other=other)


_IDS = st.sampled_from("abcdef")
_LINKS = st.lists(
    st.tuples(_IDS, _IDS, st.booleans(), st.integers(0, 5)).map(
        lambda parts: identify(parts[0], parts[1], parts[3]) if parts[2] else alias(parts[0], parts[1], parts[3])
    ),
    max_size=10,
).map(
    lambda links: [
        Link(at=link.at, event_id=str(number), one=link.one, other=link.other, is_known=link.is_known)
        for number, link in enumerate(links)
    ]
)


def arrival_order_resolve(links: Iterable[Link]) -> Mapping[str, str]:
    """Join links as they come, the first one wins: what this module must not do."""
    later = [
        Link(at=number, event_id=link.event_id, one=link.one, other=link.other, is_known=link.is_known)
        for number, link in enumerate(links)
    ]
    return resolve(later)


def test_identify_joins_the_anonymous_id_to_the_known_user() -> None:
    """Both ids are the known user's from then on, and before."""
    assert resolve([identify("user_42", "anon-1")]) == {"user_42": "user_42", "anon-1": "user_42"}


def test_an_alias_is_undirected() -> None:
    """Whichever id the client puts first, the two are one visitor, called by the smaller id."""
    assert resolve([alias("b", "a")]) == resolve([alias("a", "b")]) == {"a": "a", "b": "a"}


def test_a_known_user_gives_the_visitor_its_name() -> None:
    """Also where the link to it goes through an alias, and the user is identified without an anonymous id."""
    assert set(resolve([alias("a", "zoe"), identify("zoe", None, 5)]).values()) == {"zoe"}


def test_two_known_users_are_never_joined() -> None:
    """Neither directly nor by an id in between, and the refusal says whose id it was."""
    direct = [identify("ann", None, 0), identify("bob", "ann", 1)]
    assert resolve(direct) == {"ann": "ann", "bob": "bob"}
    between = [identify("ann", "tablet", 0), identify("bob", "tablet", 1)]
    assert resolve(between) == {"ann": "ann", "tablet": "ann", "bob": "bob"}
    assert refused(between) == {"e1": "ann"}
    assert refused([alias("ann", "bob", 2), *direct]) == {"e1": "ann"}


def test_a_link_that_is_known_late_but_was_said_early_comes_first() -> None:
    """What was joined by a later statement is taken back when an earlier one turns up."""
    late = identify("bob", "tablet", 1)
    assert resolve([late])["tablet"] == "bob"
    assert resolve([late, identify("ann", "tablet", 0)])["tablet"] == "ann"


@settings(max_examples=300, deadline=None)
@given(_LINKS, st.randoms())
def test_the_order_and_copies_of_links_do_not_matter(links: list[Link], chance: random.Random) -> None:
    """The visitors are a function of the set of links."""
    shuffled = links + [link for link in links if chance.random() < 0.3]
    chance.shuffle(shuffled)
    assert resolve(shuffled) == resolve(links)
    assert refused(shuffled) == refused(links)


@pytest.mark.hypothesis
def test_joining_in_the_order_of_arrival_is_found_out() -> None:
    """The comparison above finds a resolution that goes by arrival."""

    def depends(links: list[Link]) -> bool:
        return arrival_order_resolve(links) != arrival_order_resolve(links[::-1])

    assert find(_LINKS, depends, settings=settings(max_examples=2_000, deadline=None))


@settings(max_examples=300, deadline=None)
@given(_LINKS)
def test_each_visitor_has_one_known_user_at_most(links: list[Link]) -> None:
    """Ids of two known users are two visitors, and a visitor with a known user is called by it."""
    visitors = resolve(links)
    known = {link.one for link in links if link.is_known}
    for visitor, ids in members(visitors).items():
        users = known.intersection(ids)
        assert users <= {visitor}
        assert visitor == (users.pop() if users else ids[0])


@settings(max_examples=300, deadline=None)
@given(_LINKS)
def test_what_hangs_together_can_be_resolved_alone(links: list[Link]) -> None:
    """Links that have no id in common, not even through others, do not touch each other."""
    other = [
        Link(at=link.at, event_id=f"x{link.event_id}", one=f"x{link.one}", other=link.other and f"x{link.other}")
        for link in links
    ]
    assert resolve(links + other) == {**resolve(links), **resolve(other)}


@pytest.mark.parametrize(
    "junk",
    [
        *("", " ", "null", "NULL", "undefined", "none", "None", "anonymous", "guest", "distinct_id", "true", "False"),
        *("0", "[object Object]", "NaN", " nan ", '"undefined"', "$posthog_cookieless", "x" * 201),
    ],
)
def test_junk_ids_join_nobody(junk: str) -> None:
    """What broken clients send for everybody makes nobody the same, on either side of a link."""
    assert is_junk(junk)
    said = link_of(event("e", 1, IDENTIFY, distinct_id="ann", properties={"$anon_distinct_id": junk}))
    assert said is not None
    assert said.ids == ("ann",)
    assert link_of(event("e", 1, IDENTIFY, distinct_id=junk, properties={"$anon_distinct_id": "anon"})) is None
    assert link_of(event("e", 1, ALIAS, distinct_id="ann", properties={"alias": junk})) is None
    assert link_of(event("e", 1, ALIAS, distinct_id=junk, properties={"alias": "ann"})) is None


def test_a_real_id_is_not_junk() -> None:
    """Ids that only look a little like junk join as any other."""
    for each in ("user_42", "00", "nullable", "guest-7", "x" * 200):
        assert not is_junk(each)


@pytest.mark.parametrize("other", [None, 7, ["a"], {"a": 1}])
def test_an_id_that_is_no_text_joins_nobody(other: object) -> None:
    """Properties are whatever a client sent."""
    said = link_of(event("e", 1, IDENTIFY, distinct_id="ann", properties={"$anon_distinct_id": other}))
    assert said is not None
    assert said.other is None
    assert link_of(event("e", 1, ALIAS, distinct_id="ann", properties={"alias": other})) is None


def test_naming_a_group_links_nobody() -> None:
    """`$groupidentify` has the group's id or a random one in place of a person's."""
    properties = {"$anon_distinct_id": "anon", "alias": "anon"}
    assert link_of(event("e", 1, GROUP_IDENTIFY, distinct_id="$company_acme", properties=properties)) is None
    assert link_of(event("e", 1, "$pageview", properties=properties)) is None


def test_both_directions_of_an_alias_are_understood() -> None:
    """Posthog for Python puts the old id first, posthog-node the new one: the visitor is the same."""
    python = link_of(event("e", 1, ALIAS, distinct_id="anon-abc", properties={"alias": "user_1"}))
    node = link_of(event("e", 1, ALIAS, distinct_id="user_1", properties={"alias": "anon-abc"}))
    assert python is not None
    assert node is not None
    known = identify("user_1", None, 9)
    assert resolve([python, known]) == resolve([node, known]) == {"user_1": "user_1", "anon-abc": "user_1"}
