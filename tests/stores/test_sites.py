"""Every store keeps the contract of sites; the manager finds them by write key and keeps what must stay."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from lastseen.app import LastSeen
from lastseen.errors import ConfigurationError
from lastseen.stores import open_store
from lastseen.stores.memory import MemorySites
from lastseen.testing import SiteStoreContract
from lastseen.testing.sites import new_site
from lastseen.visits.rule import VisitRule
from lastseen.visits.site import SiteNotFound
from lastseen.visits.site_store import SiteStore
from lastseen.visits.sites import Sites


class TestMemorySites(SiteStoreContract):
    @pytest.fixture
    def store(self) -> SiteStore:
        return MemorySites()


class TestSQLiteSites(SiteStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SiteStore]:
        store = open_store(f"sqlite:///{tmp_path}/sites.db")
        store.migrate()
        yield store.sites
        store.close()


class TestPostgresSites(SiteStoreContract):
    @pytest.fixture
    def store(self, postgres_url: str) -> Iterator[SiteStore]:
        store = open_store(postgres_url)
        store.migrate()
        yield store.sites
        store.close()


def test_a_fresh_database_has_one_site_with_the_rule_of_the_settings(tmp_path: Path) -> None:
    """It is called default, and opening again, with another rule, leaves it and its secret as they are."""
    url = f"sqlite:///{tmp_path}/fresh.db"
    with LastSeen.open(url, migrate=True, visit_rule=VisitRule(timeout=timedelta(minutes=5))) as seen:
        (site,) = seen.sites.list()
        assert (site.id, site.rule.timeout, len(site.import_secret)) == ("default", timedelta(minutes=5), 32)
        assert re.fullmatch("wk_[A-Za-z0-9_-]{22}", site.write_key)
    with LastSeen.open(url, migrate=True, visit_rule=VisitRule(timeout=timedelta(hours=1))) as seen:
        assert seen.sites.list() == [site]
        assert seen.sites.create("second").rule.timeout == timedelta(hours=1)


def test_a_fresh_write_key_ends_the_old_one_and_leaves_the_rest() -> None:
    """The secret of imports stays: the visitors of a log that is imported again are the same."""
    sites = Sites(MemorySites())
    site = sites.create("shop")
    fresh = sites.rotate_write_key("shop")
    assert sites.store.site_by_write_key(site.write_key) is None
    assert sites.store.site_by_write_key(fresh.write_key) == fresh
    assert fresh.import_secret == site.import_secret


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"id": "No Slug"}, "site id"),
        ({"id": "-a"}, "site id"),
        ({"id": "x" * 64}, "site id"),
        ({"name": " "}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"domains": ("example org",)}, "domain"),
        ({"domains": ("",)}, "domain"),
        ({"domains": tuple(f"d{number}.example" for number in range(101))}, "domains"),
    ],
)
def test_a_site_that_cannot_be_is_refused(changes: dict[str, object], word: str) -> None:
    """The message says what is allowed."""
    with pytest.raises(ConfigurationError, match=word):
        new_site("shop", **changes)


def test_domains_are_the_rules_own() -> None:
    """As referrers have them, each once; the rule of the site always knows them."""
    site = replace(new_site("shop"), domains=("Example.ORG.", "https://www.example.org:8443/", "münchen.example"))
    assert site.domains == ("example.org", "xn--mnchen-3ya.example")
    assert site.rule.own_domains == frozenset(site.domains)


def test_an_unknown_site_is_told_and_a_bad_change_changes_nothing() -> None:
    """By the manager as by the store."""
    sites = Sites(MemorySites())
    for unknown in ("none", "a\0b", ""):
        with pytest.raises(SiteNotFound):
            sites.get(unknown)
        with pytest.raises(SiteNotFound):
            sites.change(unknown, name="New")
    site = sites.create("shop")
    with pytest.raises(ConfigurationError):
        sites.change("shop", domains=("not a domain",))
    assert sites.get("shop") == site
    assert "import_secret" not in repr(site)
