"""The cases in which one visit is told from two, one by one; the table in docs/visits.md names these tests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from lastseen.clock import to_micros
from lastseen.visits.event import (
    ALIAS,
    GROUP_IDENTIFY,
    IDENTIFY,
    PAGELEAVE,
    SESSION_END,
    SESSION_START,
    UNLESS_OPEN,
    Device,
    Event,
    EventFlags,
    Geo,
)
from lastseen.visits.fold import as_open, close_overdue, fold, resume
from lastseen.visits.identity import link_of, refused, resolve
from lastseen.visits.opened import MAX_OTHER_WINDOWS, MAX_WINDOWS
from lastseen.visits.refold import Place, refold
from lastseen.visits.rule import VisitRule
from lastseen.visits.visit import EndReason, Evidence, StartReason, Visit
from tests.visits.streams import HOUR, MINUTE, SECOND, event, utm

RULE = VisitRule(own_domains=frozenset({"example.org"}), excluded_referrers=frozenset({"paypal.com"}))


def visits_of(*events: Event, rule: VisitRule = RULE) -> list[Visit]:
    """Fold events of one visitor."""
    return fold(events, rule, "ann")


def reasons(visits: Sequence[Visit]) -> list[str]:
    """Return why each visit began."""
    return [visit.start_reason.value for visit in visits]


def local(text: str, zone: str = "Europe/Berlin", *, fold: int = 0) -> int:
    """Return the moment that a clock on the wall shows."""
    return to_micros(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold))


def test_a_click_inside_the_site_is_no_change_of_referrer() -> None:
    """A referrer of the site's own domain says nothing; one of another site splits."""
    entry = event("a", 0, url="/", referrer_domain="google.com")
    click = event("b", MINUTE, url="/shop", referrer_domain="example.org")
    assert reasons(visits_of(entry, click)) == ["first"]
    assert reasons(visits_of(entry, click, rule=VisitRule())) == ["first", "referrer"]


def test_coming_back_from_a_payment_service_continues_the_visit() -> None:
    """An excluded referrer says nothing, neither on return nor as the origin of a visit."""
    entry = event("a", 0, url="/", referrer_domain="google.com")
    back = event("b", 5 * MINUTE, url="/paid", referrer_domain="paypal.com")
    assert reasons(visits_of(entry, back)) == ["first"]
    assert reasons(visits_of(entry, back, rule=VisitRule())) == ["first", "referrer"]
    late, link = event("c", HOUR, referrer_domain="paypal.com"), event("d", HOUR + SECOND, referrer_domain="news.com")
    assert reasons(visits_of(entry, late, link)) == ["first", "timeout"]


def test_a_host_may_be_excluded_of_a_domain_that_brings_visitors_too() -> None:
    """Coming back from `checkout.stripe.com` continues; from `stripe.com` itself, or its neighbours, it does not."""
    rule = VisitRule(excluded_referrers=frozenset({"checkout.stripe.com"}))
    entry = event("a", 0, url="/", referrer_domain="google.com")

    def back(host: str) -> list[str]:
        returned = event("b", MINUTE, url="/paid", referrer=f"https://{host}/pay", referrer_domain="stripe.com")
        return reasons(visits_of(entry, returned, rule=rule))

    assert back("checkout.stripe.com") == back("eu.checkout.stripe.com") == ["first"]
    assert back("stripe.com") == back("docs.stripe.com") == back("mycheckout.stripe.com") == ["first", "referrer"]
    came = event("c", 0, url="/", referrer="https://checkout.stripe.com/", referrer_domain="stripe.com")
    link = event("d", MINUTE, referrer_domain="news.com")
    (visit,) = visits_of(came, link, rule=rule)
    assert visit.channel == "Direct"
    assert reasons(visits_of(came, link)) == ["first", "referrer"]


def test_another_referrer_starts_a_visit() -> None:
    """Both known and different: the visit names the two domains, and so does the end of the one before."""
    first, second = visits_of(
        event("a", 0, referrer_domain="google.com"), event("b", MINUTE, referrer_domain="news.com")
    )
    evidence = Evidence(before="google.com", after="news.com")
    assert (second.start_reason, second.start_evidence) == (StartReason.REFERRER, evidence)
    assert (first.end_reason, first.end_evidence, first.end) == (EndReason.REFERRER, evidence, 0)
    assert second.previous_id == first.id


def test_an_unknown_referrer_or_campaign_is_no_change() -> None:
    """Direct after tagged and tagged after direct continue, and the visit keeps the origin of its entry."""
    tagged = event("a", 0, url="/", referrer_domain="google.com", utm=utm("google", "cpc"))
    direct = event("b", MINUTE, url="/")
    assert reasons(visits_of(tagged, direct)) == ["first"]
    (visit,) = visits_of(event("0", 0, url="/"), event("1", MINUTE, url="/", utm=utm("google")))
    assert visit.utm is None
    assert visit.channel == "Direct"


def test_a_reload_never_splits() -> None:
    """The same address with the same referrer and campaign is one more page view of the same visit."""
    again: dict[str, Any] = {
        "url": "/?utm_source=google",
        "referrer_domain": "google.com",
        "utm": utm("google", "cpc", "spring"),
    }
    (visit,) = visits_of(*(event(f"{turn}", turn * MINUTE, **again) for turn in range(5)))
    assert visit.page_views == 5
    changed = event("9", 9 * MINUTE, **{**again, "utm": utm("x", "cpc", "summer")})
    assert reasons(visits_of(event("0", 0, **again), changed)) == ["first", "campaign"]


def test_campaigns_are_compared_without_case_and_blanks() -> None:
    """`Google ` and `google` are one source; another term or content is no other campaign."""
    entry = event("a", 0, utm=utm("google", "cpc", "Spring Sale"))
    same = event("b", MINUTE, utm=utm(" Google", "CPC", "spring  sale"))
    assert reasons(visits_of(entry, same)) == ["first"]
    other = event("c", 2 * MINUTE, utm=utm("google", "cpc", "summer"))
    second = visits_of(entry, same, other)[-1]
    assert second.start_reason is StartReason.CAMPAIGN
    assert second.start_evidence == Evidence(before="google / cpc / Spring Sale", after="google / cpc / summer")


def test_change_rules_can_be_switched_off() -> None:
    """A site without change rules splits by time alone."""
    rule = VisitRule(new_visit_on_referrer_change=False, new_visit_on_utm_change=False)
    entry = event("a", 0, referrer_domain="google.com", utm=utm("google"))
    other = event("b", MINUTE, referrer_domain="news.com", utm=utm("news"))
    assert reasons(visits_of(entry, other, rule=rule)) == ["first"]
    assert reasons(visits_of(entry, other)) == ["first", "campaign"]


def test_midnight_is_no_end() -> None:
    """A visit over midnight is one visit, of the day on which it began."""
    before, after = local("2026-01-31 23:50", "UTC"), local("2026-02-01 00:10", "UTC")
    (visit,) = visits_of(event("a", before), event("b", after))
    assert visit.started_at.day == 31
    assert visit.duration == timedelta(minutes=20)


def test_a_change_of_the_clocks_is_no_silence() -> None:
    """In spring 01:50 and 03:10 are 20 minutes apart, in autumn 02:10 and 02:10 are an hour."""
    spring = [event("a", local("2026-03-29 01:50")), event("b", local("2026-03-29 03:10"))]
    assert reasons(visits_of(*spring)) == ["first"]
    autumn = [event("a", local("2026-10-25 02:50")), event("b", local("2026-10-25 02:10", fold=1))]
    assert reasons(visits_of(*autumn)) == ["first"]
    hour = [event("a", local("2026-10-25 02:10")), event("b", local("2026-10-25 02:10", fold=1))]
    assert reasons(visits_of(*hour)) == ["first", "timeout"]


def test_a_silence_of_exactly_the_timeout_continues_the_visit() -> None:
    """1,800 s continue, a microsecond more does not, and the evidence shows it."""
    assert reasons(visits_of(event("a", 0), event("b", 1_800 * SECOND))) == ["first"]
    second = visits_of(event("a", 0), event("b", 1_800 * SECOND + 1))[-1]
    assert second.start_reason is StartReason.TIMEOUT
    assert second.start_evidence == Evidence(before="30m and 0.000001s", after="30m")
    third = visits_of(event("a", 0), event("b", 1_865 * SECOND))[-1]
    assert third.start_evidence == Evidence(before="31m 5s", after="30m")


def test_a_visit_that_timed_out_ended_at_its_last_activity() -> None:
    """The silence is not part of it."""
    first, _ = visits_of(event("a", 0), event("b", 10 * MINUTE), event("c", 2 * HOUR))
    assert (first.end, first.end_reason) == (10 * MINUTE, EndReason.TIMEOUT)
    assert first.duration == timedelta(minutes=10)


def test_a_visit_lasts_a_day_at_most() -> None:
    """An event exactly 24 hours after the start is in; the next one starts another visit that knows the one before."""
    day = [event(f"{turn:03d}", turn * 20 * MINUTE) for turn in range(73)]
    assert reasons(visits_of(*day)) == ["first"]
    first, second = visits_of(*day, event("x", 24 * HOUR + SECOND))
    assert (first.end_reason, first.end) == (EndReason.MAX_DURATION, 24 * HOUR)
    assert second.start_reason is StartReason.MAX_DURATION
    assert second.start_evidence == Evidence(before="24h 1s", after="24h")
    assert second.previous_id == first.id


def test_a_visitor_who_becomes_known_stays_in_the_visit() -> None:
    """Identifying joins the ids without a split, and the visit knows its user."""
    events = [
        event("a", 0, url="/", distinct_id="anon"),
        event("b", MINUTE, IDENTIFY, distinct_id="ann", properties={"$anon_distinct_id": "anon"}),
        event("c", 2 * MINUTE, url="/account", distinct_id="ann"),
    ]
    visitors = resolve(link for each in events if (link := link_of(each)))
    assert visitors == {"anon": "ann", "ann": "ann"}
    (visit,) = fold(events, RULE, "ann")
    assert (visit.user_id, visit.distinct_id, visit.visitor_id) == ("ann", "anon", "ann")
    assert (visit.page_views, visit.event_count) == (2, 3)


def test_two_known_users_on_one_device_are_two_visits() -> None:
    """Another user under the same id splits at once; logging out alone does not."""
    events = [
        event("a", 0, user_id="ann"),
        event("b", MINUTE),
        event("c", 2 * MINUTE, user_id="bob"),
        event("d", 3 * MINUTE),
    ]
    first, second = visits_of(*events)
    assert (first.user_id, first.event_count, first.end_reason) == ("ann", 2, EndReason.OTHER_USER)
    assert (second.user_id, second.event_count, second.start_reason) == ("bob", 2, StartReason.OTHER_USER)
    assert second.start_evidence == Evidence(before="ann", after="bob")


def test_a_user_who_takes_over_a_device_is_not_merged_with_the_one_before() -> None:
    """The second identification of an anonymous id is refused, and the visit that begins with it says whose it was."""
    events = [
        event("a", 0, distinct_id="tablet"),
        event("b", MINUTE, IDENTIFY, distinct_id="ann", properties={"$anon_distinct_id": "tablet"}),
        event("c", 2 * MINUTE, IDENTIFY, distinct_id="bob", properties={"$anon_distinct_id": "tablet"}),
        event("d", 3 * MINUTE, distinct_id="bob"),
    ]
    links = [link for each in events if (link := link_of(each))]
    visitors, others = resolve(links), refused(links)
    of = {
        visitor: fold([e for e in events if visitors[e.distinct_id] == visitor], RULE, visitor, others=others)
        for visitor in ("ann", "bob")
    }
    assert [visit.event_count for visit in of["ann"]] == [2]
    (visit,) = of["bob"]
    assert (visit.start_reason, visit.event_count) == (StartReason.OTHER_USER, 2)
    assert visit.start_evidence == Evidence(before="ann", after="bob")


def test_a_refusal_that_is_known_late_changes_the_reason() -> None:
    """An identification that was accepted at first may be given again when an earlier one turns it down."""
    said = event("b", MINUTE, IDENTIFY, distinct_id="bob", properties={"$anon_distinct_id": "tablet"})
    visits = fold([said], RULE, "bob")
    again = refold(visits, [said], lambda _place: [said], RULE, "bob", others={"b": "ann"})
    assert [visit.start_reason for visit in again.visits] == [StartReason.OTHER_USER]
    assert (again.changed, again.removed) == (list(again.visits), [])
    assert refold(again.visits, [], lambda _place: [said], RULE, "bob").changed == ()


def test_an_event_from_the_future_disturbs_nothing_before_it() -> None:
    """It is a visit of its own until what lies between has come, and then continues it if that is in time."""
    now, ahead = event("a", 0), event("z", 50 * MINUTE)
    assert reasons(visits_of(now, ahead)) == ["first", "timeout"]
    (visit,) = visits_of(now, ahead, event("b", 25 * MINUTE))
    assert visit.event_count == 3
    assert all(visit.duration >= timedelta(0) for visit in visits_of(ahead, now))


def test_many_tabs_are_one_visit() -> None:
    """Windows are kept in the order in which they were first seen, and never split."""
    windows = ["w2", "w1", "w2", None, "w3"]
    (visit,) = visits_of(*(event(f"{turn}", turn * MINUTE, window_id=window) for turn, window in enumerate(windows)))
    assert visit.window_ids == ("w2", "w1", "w3")
    (crawled,) = visits_of(*(event(f"{turn:03d}", turn, window_id=f"w{turn}") for turn in range(MAX_WINDOWS + 5)))
    assert len(crawled.window_ids) == MAX_WINDOWS
    assert crawled.event_count == MAX_WINDOWS + 5


def test_tabs_from_two_origins_do_not_split_on_every_switch() -> None:
    """A tab that goes on as it came brings its visitor from nowhere; another campaign in it, or a new tab, does."""
    tabs: dict[str, dict[str, Any]] = {
        "w1": {"utm": utm("a"), "referrer_domain": "a.com"},
        "w2": {"utm": utm("b"), "referrer_domain": "b.com"},
    }
    turns = [event(f"{turn}", turn * MINUTE, window_id=tab, **tabs[tab]) for turn, tab in enumerate(["w1", "w2"] * 3)]
    assert reasons(visits_of(*turns)) == ["first", "campaign"]
    by_referrer = [replace(each, utm=None) for each in turns]
    assert reasons(visits_of(*by_referrer)) == ["first", "referrer"]
    back = event("7", 7 * MINUTE, window_id="w1", utm=utm("c"))
    assert reasons(visits_of(*turns, back)) == ["first", "campaign", "campaign"]
    again = event("8", 8 * MINUTE, window_id="w3", utm=utm("a"))
    assert reasons(visits_of(*turns, again)) == ["first", "campaign", "campaign"]


def test_without_windows_each_other_campaign_begins_a_visit() -> None:
    """The control: nothing tells one tab from another, so what comes counts."""
    turns = [event(f"{turn}", turn * MINUTE, utm=utm(source)) for turn, source in enumerate("abab")]
    assert reasons(visits_of(*turns)) == ["first", "campaign", "campaign", "campaign"]


def test_a_late_event_finds_the_windows_beside_as_they_were() -> None:
    """What is folded again from the middle of a visitor's history gives the visits of the whole."""
    tabs = {"w1": utm("a"), "w2": utm("b"), "w3": utm("c")}
    order = ["w1", "w2", "w1", "w3", "w1", "w2", "w3", "w2"]
    turns = [event(f"{turn}", turn * MINUTE, window_id=tab, utm=tabs[tab]) for turn, tab in enumerate(order)]
    whole = visits_of(*turns)
    assert reasons(whole) == ["first", "campaign", "campaign"]
    for late in turns:
        others = [each for each in turns if each is not late]

        def read(place: Place | None) -> list[Event]:
            return [each for each in turns if place is None or each.order >= place]

        again = refold(visits_of(*others), [late], read, RULE, "ann")
        assert list(again.visits) == whole


def test_few_windows_beside_are_kept() -> None:
    """Programs that make up a window for every page cannot make visits large."""
    crowd = [event(f"{turn:03d}", turn, window_id=f"w{turn}", utm=utm("a")) for turn in range(MAX_WINDOWS)]
    _, newest = visits_of(*crowd, event("b", MINUTE, window_id="w", utm=utm("b")))
    assert len(newest.other_windows) == MAX_OTHER_WINDOWS


def test_a_hidden_page_keeps_no_visit_alive() -> None:
    """Passive events are counted while the visit is open; they neither extend nor start one."""
    beats = [event(f"h{turn:02d}", turn * 10 * MINUTE, "heartbeat", flags=EventFlags.PASSIVE) for turn in range(1, 9)]
    first, second = visits_of(event("a", 0), *beats, event("b", 85 * MINUTE))
    assert (first.event_count, first.last_activity, first.last_event) == (4, 0, (30 * MINUTE, "h03"))
    assert second.start_reason is StartReason.TIMEOUT
    assert visits_of(*beats) == []


def test_an_event_of_a_server_attaches_to_the_open_visit() -> None:
    """Without a session id it neither starts nor extends a visit, unless the site says that it does."""
    order = event("s", 20 * MINUTE, "order paid", flags=EventFlags.SERVER)
    page, again = event("a", 0), event("b", 40 * MINUTE)
    first, _ = visits_of(page, order, again)
    assert (first.event_count, first.last_activity) == (2, 0)
    assert visits_of(order) == []
    full = VisitRule(count_server_events=True)
    assert [visit.event_count for visit in visits_of(page, order, again, rule=full)] == [3]
    assert reasons(visits_of(order, rule=full)) == ["first"]


def test_leaving_a_page_extends_a_visit_and_starts_none() -> None:
    """A tab that is closed the next morning is no visit."""
    page = event("a", 0, url="/")
    (soon,) = visits_of(page, event("b", 10 * MINUTE, PAGELEAVE))
    assert soon.duration == timedelta(minutes=10)
    (later,) = visits_of(page, event("b", 10 * HOUR, PAGELEAVE))
    assert (later.event_count, later.duration) == (1, timedelta(0))


def test_naming_a_group_is_no_visit_of_the_group() -> None:
    """Clients send it under the group's id, or a random one."""
    assert visits_of(event("g", 0, GROUP_IDENTIFY, distinct_id="$company_acme")) == []
    assert reasons(visits_of(event("a", 0, ALIAS))) == ["first"]


def test_a_visit_started_by_hand_has_no_page_views_yet() -> None:
    """`$session_start` always starts a visit, gives it its properties and origin, and counts as nothing."""
    start = event("s", MINUTE, SESSION_START, url="/till", referrer_domain="news.com", properties={"till": 7})
    (before, visit) = visits_of(event("a", 0), start)
    assert (visit.start_reason, visit.start_evidence) == (StartReason.ASKED, None)
    assert before.end_reason is EndReason.STARTED
    assert (visit.page_views, visit.event_count, visit.custom) == (0, 0, {"till": 7})
    assert (visit.entry_url, visit.landing_page, visit.referrer_domain) == ("/till", None, "news.com")
    (_, went_on) = visits_of(event("a", 0), start, event("b", 2 * MINUTE, url="/x"))
    assert (went_on.page_views, went_on.landing_page, went_on.entry_url) == (1, "/x", "/till")


def test_a_visit_wanted_twice_at_once_is_one_visit() -> None:
    """`$session_start` with `$unless_open` starts one only where none is open, with the reason that any event has."""
    wanted = [event(f"s{n}", n, SESSION_START, properties={UNLESS_OPEN: True, "n": n}) for n in range(2)]
    (visit,) = visits_of(*wanted)
    assert (visit.start_reason, visit.event_count, visit.custom) == (StartReason.FIRST, 0, {"n": 0})
    later = event("s9", HOUR, SESSION_START, properties={UNLESS_OPEN: True})
    assert reasons(visits_of(*wanted, later)) == ["first", "timeout"]


def test_a_visit_ended_by_hand_is_over_at_that_moment() -> None:
    """The next event starts another one, however soon; ending again, or what is not open, changes nothing."""
    page, end = event("a", 0), event("e", MINUTE, SESSION_END)
    (visit,) = visits_of(page, end, event("f", 2 * MINUTE, SESSION_END))
    assert (visit.end, visit.end_reason, visit.event_count) == (MINUTE, EndReason.ASKED, 1)
    first, second = visits_of(page, end, event("b", 2 * MINUTE))
    assert first.end_reason is EndReason.ASKED
    assert second.start_reason is StartReason.ENDED
    (late,) = visits_of(page, event("e", HOUR, SESSION_END))
    assert late.end is None
    assert visits_of(end) == []


def test_a_late_event_joins_two_visits_into_one() -> None:
    """What comes late between two visits closes the gap, in whatever order it is told."""
    page, back, between = event("a", 0, url="/1"), event("c", 50 * MINUTE, url="/3"), event("b", 25 * MINUTE, url="/2")
    assert len(visits_of(page, back)) == 2
    (visit,) = visits_of(page, back, between)
    assert (visit.page_views, visit.landing_page, visit.exit_page) == (3, "/1", "/3")
    marked = visits_of(page, back, event("b", 25 * MINUTE, flags=EventFlags.LATE))
    assert [visit.has_late_events for visit in marked] == [True]


def test_device_and_place_may_be_told_later_the_origin_may_not() -> None:
    """The first known device and place count, a screen of the same device completes it; referrer and campaign stay."""
    phone = Device(type="mobile", os="Android", browser="Chrome")
    full = Device(type="mobile", os="Android", browser="Chrome", screen_resolution="360x800")
    desktop = Device(type="desktop", os="Linux", browser="Firefox", screen_resolution="1920x1080")
    (visit,) = visits_of(
        event("a", 0, url="/"),
        event("b", 1, device=phone, referrer_domain="news.com"),
        event("c", 2, device=desktop, geo=Geo(country="DE")),
        event("d", 3, device=full, geo=Geo(country="US")),
    )
    assert visit.device == full
    assert visit.geo == Geo(country="DE")
    assert visit.referrer_domain is None


def test_the_channel_is_that_of_the_entry() -> None:
    """A payment service is nowhere to come from."""
    (found,) = visits_of(event("a", 0, url="https://example.org/", referrer_domain="google.com"))
    (paid,) = visits_of(event("a", 0, url="https://example.org/", referrer_domain="paypal.com"))
    assert (found.channel, paid.channel) == ("Organic Search", "Direct")


def test_an_end_that_time_has_put_is_taken_back_by_an_event_in_time() -> None:
    """A clean-up may be early for what is still on its way; going on opens the visit again."""
    (visit,) = visits_of(event("a", 0))
    ended = close_overdue(visit, HOUR, RULE)
    assert ended is not None
    assert (ended.end, ended.end_reason) == (0, EndReason.TIMEOUT)
    assert ended.end_evidence == Evidence(before="over 30m", after="30m")
    assert as_open(ended) == visit
    (again,) = resume(ended, [event("b", 10 * MINUTE)], RULE, "ann")
    assert (again.end, again.event_count) == (None, 2)
    assert close_overdue(visit, 30 * MINUTE, RULE) is None


@pytest.mark.parametrize("seconds", [0, 1_799, 1_800])
def test_going_on_skips_what_the_visit_has_already(seconds: int) -> None:
    """The same event again, or an earlier one, changes nothing."""
    visits = visits_of(event("a", 0), event("b", seconds * SECOND))
    assert resume(visits[-1], [event("a", 0), event("b", seconds * SECOND)], RULE, "ann") == visits


def test_an_identification_as_nobody_names_no_user() -> None:
    """An id that is none: who signs in afterwards goes on with the visit."""
    (visit,) = visits_of(
        event("a", 0),
        event("b", MINUTE, IDENTIFY, distinct_id="undefined"),
        event("c", 2 * MINUTE, user_id="ann"),
    )
    assert (visit.user_id, visit.event_count) == ("ann", 3)
