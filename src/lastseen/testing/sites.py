"""The contract of `SiteStore`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from lastseen.testing.factories import moment
from lastseen.visits.rule import VisitRule
from lastseen.visits.site import Site, SiteExists, SiteNotFound
from lastseen.visits.site_store import SiteStore

RULE = VisitRule(
    timeout=timedelta(minutes=7, milliseconds=5),
    max_duration=timedelta(days=2),
    new_visit_on_referrer_change=False,
    new_visit_on_utm_change=False,
    count_server_events=True,
    excluded_referrers=frozenset({"pay.example", "bank.example"}),
)


def new_site(site_id: str, **changes: object) -> Site:
    """Return a site that is like no other."""
    site = Site(
        id=site_id,
        name=f"The site {site_id} ü",
        domains=("example.org", "example.com"),
        write_key=f"wk_{site_id:_>22}",
        import_secret=site_id.encode().ljust(32, b"\0"),
        rule=RULE,
        created_at=moment() + timedelta(microseconds=123_456),
    )
    return replace(site, **changes)  # type: ignore[arg-type]


class SiteStoreContract:
    """Inherit, override `store` with an empty one, and pytest runs what every store of sites promises."""

    @pytest.fixture
    def store(self) -> SiteStore:
        """Return an empty store."""
        raise NotImplementedError("override the store fixture")

    def test_it_is_a_site_store(self, store: SiteStore) -> None:
        """The protocol is there, and begins empty."""
        assert isinstance(store, SiteStore)
        assert store.list_sites() == []
        assert store.get_site("none") is None
        assert store.site_by_write_key("wk_none") is None

    def test_a_site_comes_back_as_it_was(self, store: SiteStore) -> None:
        """Every field, by id and by write key; the rule to its last setting."""
        site = new_site("shop")
        store.add_site(site)
        assert store.get_site("shop") == site
        assert store.site_by_write_key(site.write_key) == site
        assert store.list_sites() == [site]
        assert site.rule.own_domains == {"example.org", "example.com"}

    def test_an_id_is_taken_once(self, store: SiteStore) -> None:
        """A second site with the id is refused, and changes nothing."""
        site = new_site("shop")
        store.add_site(site)
        with pytest.raises(SiteExists):
            store.add_site(new_site("shop", write_key=f"wk_{'other':_>22}", name="Other"))
        assert store.list_sites() == [site]

    def test_one_is_the_first(self, store: SiteStore) -> None:
        """Of several first sites at once one is added, also when they have different ids; later ones are not."""
        with ThreadPoolExecutor(4) as pool:
            added = list(pool.map(lambda number: store.add_first_site(new_site(f"s{number % 3}")), range(6)))
        assert sorted(added) == [False] * 5 + [True]
        assert len(store.list_sites()) == 1
        assert not store.add_first_site(new_site("later"))

    def test_what_is_given_changes_and_nothing_else(self, store: SiteStore) -> None:
        """Name, domains and rule one by one; the answer is the site as it is now."""
        site = new_site("shop")
        store.add_site(site)
        store.add_site(new_site("other"))
        assert store.change_site("shop") == site
        site = replace(site, name="Renamed")
        assert store.change_site("shop", name="Renamed") == site
        site = replace(site, domains=("example.net",))
        assert store.change_site("shop", domains=("example.net",)) == site
        site = replace(site, domains=())
        assert store.change_site("shop", domains=()) == site
        site = replace(site, rule=VisitRule())
        assert store.change_site("shop", rule=VisitRule()) == site
        assert store.get_site("shop") == site
        assert store.get_site("other") == new_site("other")

    def test_a_rotated_write_key_ends(self, store: SiteStore) -> None:
        """The new one finds the site, the old one nothing; the import secret stays."""
        site = new_site("shop")
        store.add_site(site)
        fresh = f"wk_{'fresh':_>22}"
        assert store.rotate_write_key("shop", fresh) == replace(site, write_key=fresh)
        assert store.site_by_write_key(site.write_key) is None
        assert store.site_by_write_key(fresh) == replace(site, write_key=fresh)

    def test_a_deleted_site_is_gone(self, store: SiteStore) -> None:
        """By id, by write key and in the list; the others stay, and its id is free again."""
        for name in ("a", "b"):
            store.add_site(new_site(name))
        store.delete_site("a")
        assert store.get_site("a") is None
        assert store.site_by_write_key(new_site("a").write_key) is None
        assert store.list_sites() == [new_site("b")]
        store.add_site(new_site("a"))

    @pytest.mark.parametrize("site_id", ["none", "", "a\0b", "\ud800", "x" * 1_000])
    def test_what_is_not_there_cannot_be_changed(self, store: SiteStore, site_id: str) -> None:
        """Every change of an unknown site raises, whatever its id looks like."""
        with pytest.raises(SiteNotFound):
            store.change_site(site_id, name="New")
        with pytest.raises(SiteNotFound):
            store.rotate_write_key(site_id, f"wk_{'new':_>22}")
        with pytest.raises(SiteNotFound):
            store.delete_site(site_id)
        assert store.get_site(site_id) is None
        assert store.site_by_write_key(site_id) is None

    def test_pages_follow_by_id(self, store: SiteStore) -> None:
        """Bytewise by id, without a gap or a repeat."""
        ids = ["0", "a", "a-b", "a0", "ab", "b"]
        for site_id in reversed(ids):
            store.add_site(new_site(site_id))
        found: list[str] = []
        while page := store.list_sites(2, found[-1] if found else None):
            found += [site.id for site in page]
        assert found == ids
