"""Settings: where they come from, what is refused, and that the documentation lists each of them."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastseen import ConfigurationError, StatusRule, TrackerSettings
from lastseen.settings import (
    SETTING_NAMES,
    Settings,
    fill_postgres_address,
    flag_of,
    format_span,
    load_settings,
    parse_span,
    variable_of,
)

DOCUMENT = Path(__file__).parent.parent / "docs" / "settings.md"
HOME = {"HOME": "/home/me"}


@pytest.fixture(autouse=True)
def current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be where no `lastseen.toml` is."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> Path:
    """Write a configuration file."""
    path.write_text(text, "utf-8")
    return path


def test_nothing_needs_to_be_set() -> None:
    """The defaults are complete: a database file in the user's data folder, and the tracker's own defaults."""
    settings = load_settings({}, HOME)
    assert settings.database_url == "sqlite:////home/me/.local/share/lastseen/lastseen.db"
    assert settings.tracking() == TrackerSettings()
    assert settings.status_rule() == StatusRule()


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    """Each source overrides those before it, setting by setting; a flag that was not given is None."""
    file = write(tmp_path / "my.toml", 'port = 1\nhost = "file"\nlog_level = "debug"\nflush_interval = 9\n')
    environ = HOME | {"LASTSEEN_PORT": "2", "LASTSEEN_HOST": "environment"}
    settings = load_settings({"port": "3", "host": None}, environ, file)
    assert (settings.port, settings.host, settings.log_level) == (3, "environment", "debug")
    assert settings.flush_interval == timedelta(seconds=9)


def test_the_process_environment_is_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is handed in counts."""
    monkeypatch.setenv("LASTSEEN_PORT", "1")
    monkeypatch.setenv("PGHOST", "elsewhere")
    settings = load_settings({"database_url": "postgresql://"}, HOME)
    assert (settings.port, settings.database_url) == (8080, "postgresql:///")
    assert os.environ["PGHOST"] == "elsewhere"


def test_which_file_is_read(tmp_path: Path, current_folder: Path) -> None:
    """The one that is handed in, else the one that `LASTSEEN_CONFIG` names, else `lastseen.toml` here, else none."""
    assert load_settings({}, HOME).port == 8080
    write(current_folder / "lastseen.toml", "port = 1")
    assert load_settings({}, HOME).port == 1
    environ = HOME | {"LASTSEEN_CONFIG": str(write(tmp_path / "named.toml", "port = 2"))}
    assert load_settings({}, environ).port == 2
    assert load_settings({}, environ, write(tmp_path / "given.toml", "port = 3")).port == 3


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"XDG_DATA_HOME": "/xdg", "HOME": "/h"}, "/xdg/lastseen"),
        ({"XDG_DATA_HOME": "relative", "HOME": "/h"}, "/h/.local/share/lastseen"),
        ({"XDG_DATA_HOME": "", "HOME": "/h"}, "/h/.local/share/lastseen"),
        ({"LASTSEEN_DATA_FOLDER": "/mine", "XDG_DATA_HOME": "/xdg"}, "/mine"),
    ],
)
def test_the_data_folder(environ: Mapping[str, str], folder: str) -> None:
    """It is the user's, by the rules of freedesktop.org, unless it is set."""
    settings = load_settings({}, environ)
    assert settings.data_folder == Path(folder)
    assert settings.database_url == f"sqlite:///{folder}/lastseen.db"


def test_without_a_home_the_system_knows_it() -> None:
    """No HOME in the environment is no reason to fail, and no folder is ever called `~`."""
    assert load_settings({}, {}).data_folder == Path.home() / ".local/share/lastseen"
    assert Settings().data_folder.is_absolute()


def test_a_folder_with_strange_characters_is_found_again(tmp_path: Path) -> None:
    """The default address is percent-encoded, as every address is."""
    from lastseen.stores import sqlite_path

    settings = load_settings({"data_folder": tmp_path / "50% #1?"}, {})
    assert sqlite_path(settings.database_url) == str(tmp_path / "50% #1?" / "lastseen.db")


@pytest.mark.parametrize(
    ("flags", "environ", "file", "message"),
    [
        (
            {},
            {"LASTSEEN_PROT": "1"},
            "",
            r"unknown setting LASTSEEN_PROT in the environment; did you mean LASTSEEN_PORT",
        ),
        ({}, {"LASTSEEN_": "1"}, "", "unknown setting LASTSEEN_ "),
        ({"prot": 1}, {}, "", "unknown setting prot; did you mean port"),
        (
            {},
            {},
            "flush_intervall = 5",
            r"unknown setting flush_intervall in .*my\.toml; did you mean flush_interval\?",
        ),
        ({}, {}, "[server]\nport = 1", r"unknown setting server in .*my\.toml"),
        ({}, {}, "zzz = 1", "there are: database_url, data_folder"),
    ],
)
def test_an_unknown_key_is_named(
    tmp_path: Path, flags: dict[str, Any], environ: dict[str, str], file: str, message: str
) -> None:
    """In every source, with the setting that was probably meant."""
    with pytest.raises(ConfigurationError, match=message):
        load_settings(flags, environ, write(tmp_path / "my.toml", file))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("port", "http", "LASTSEEN_PORT must be a whole number, not 'http'"),
        ("port", "80.5", "LASTSEEN_PORT must be a whole number"),
        ("port", "", "LASTSEEN_PORT must be a whole number"),
        ("port", "65536", "port must be from 0 to 65535, not 65536"),
        ("port", "-1", "port must be from 0 to 65535"),
        ("host", "", "host must not be empty"),
        ("log_format", "xml", "LASTSEEN_LOG_FORMAT must be one of human, json, not 'xml'"),
        ("log_level", "INFO", "LASTSEEN_LOG_LEVEL must be one of debug, info"),
        ("http_server", "gunicorn", "LASTSEEN_HTTP_SERVER must be one of uvicorn, granian"),
        ("flush_interval", "soon", "LASTSEEN_FLUSH_INTERVAL must be a span such as 500ms"),
        ("flush_interval", "0", "flush_interval must be longer than zero"),
        ("flush_interval", "-1s", "LASTSEEN_FLUSH_INTERVAL must be a span"),
        ("close_deadline", "99999999999999w", "LASTSEEN_CLOSE_DEADLINE must be a span"),
        ("max_buffer_size", "many", "LASTSEEN_MAX_BUFFER_SIZE must be a whole number, or none"),
        ("max_buffer_size", "0", "max_buffer_size must be at least 1"),
        ("max_buffer_size", "50001", "max_buffer_size must not exceed max_pending"),
        ("max_pending", "99", "max_buffer_size must not exceed max_pending"),
        ("chunk_size", "0", "chunk_size must be at least 1"),
        ("pool_size", "0", "pool_size must be at least 1"),
        ("status_online", "1h", "status spans must grow: 0 < status_online < status_recent"),
        ("status_idle", "30m", "status spans must grow"),
        ("database_url", "lastseen.db", "database_url must be memory:, sqlite:///path or postgresql://"),
        ("database_url", "mysql://me@db/x", "database_url must be"),
    ],
)
def test_what_cannot_be_is_refused_with_its_name(name: str, value: str, message: str) -> None:
    """Wrong values and contradictions, each by name and with what is allowed."""
    with pytest.raises(ConfigurationError, match=message):
        load_settings({}, HOME | {variable_of(name): value})


@pytest.mark.parametrize("text", ["port = ", "port = 1\nport = 2", "\x00"])
def test_a_file_that_is_not_toml(tmp_path: Path, text: str) -> None:
    """It is named."""
    with pytest.raises(ConfigurationError, match=r"my\.toml is not valid TOML"):
        load_settings({}, {}, write(tmp_path / "my.toml", text))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, a folder, or not text: named, with the reason."""
    with pytest.raises(ConfigurationError, match=r"missing\.toml: No such file"):
        load_settings({}, {"LASTSEEN_CONFIG": "missing.toml"})
    with pytest.raises(ConfigurationError, match="Is a directory"):
        load_settings({}, {}, tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'host = "\xe9"')
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        load_settings({}, {}, tmp_path / "latin.toml")


def test_values_from_a_file_have_their_own_types(tmp_path: Path) -> None:
    """TOML's numbers, texts and lists are as welcome as the text of a variable."""
    file = write(
        tmp_path / "my.toml", 'allowed_hosts = ["a", "b"]\nport = "81"\nflush_interval = 0.5\ndata_folder = "/x"'
    )
    settings = load_settings({}, {"LASTSEEN_MAX_BUFFER_SIZE": "None"}, file)
    assert (settings.allowed_hosts, settings.port, settings.max_buffer_size) == (("a", "b"), 81, None)
    assert (settings.flush_interval, settings.data_folder) == (timedelta(milliseconds=500), Path("/x"))
    assert load_settings({}, {"LASTSEEN_ALLOWED_HOSTS": "a, b,,"}).allowed_hosts == ("a", "b")
    for wrong in ("port = true", "allowed_hosts = 5", "host = 5", "flush_interval = true", "data_folder = 1"):
        with pytest.raises(ConfigurationError, match=r"in .*my\.toml must be"):
            load_settings({}, {}, write(tmp_path / "my.toml", wrong))


@pytest.mark.parametrize("name", ["https://seen.example.org", "seen.example.org:8443", "*", "a/b", "a b"])
def test_a_host_that_no_request_could_name(name: str) -> None:
    """It would never be answered; the message shows what to write. Addresses are names of hosts, too."""
    with pytest.raises(ConfigurationError, match="without scheme and port"):
        load_settings({"allowed_hosts": name}, {})
    given = "Seen.example.org,my_host,10.0.0.7,::1,[2001:db8::1]"
    assert len(load_settings({"allowed_hosts": given}, {}).allowed_hosts) == 5


def test_every_part_reaches_its_owner() -> None:
    """What is set for the tracker and for the status words arrives there, all of it."""
    spans = {"status_online": 1, "status_recent": 2, "status_idle": 3}
    sizes = {"max_buffer_size": 7, "max_pending": 8, "chunk_size": 9}
    others = {"flush_interval": 4, "min_persist_interval": 5, "flush_deadline": 6, "close_deadline": 10}
    settings = load_settings(spans | sizes | others, {})
    tracking = settings.tracking(flush_log_level=20)
    for name, value in (sizes | others).items():
        found = getattr(tracking, name)
        assert (found.total_seconds() if isinstance(found, timedelta) else found) == value
    assert tracking.flush_log_level == 20
    rule = settings.status_rule()
    assert [span.total_seconds() for span in (rule.online, rule.recent, rule.idle)] == [1, 2, 3]


def test_settings_do_not_change() -> None:
    """They are made once."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("500ms", 0.5),
        ("5m", 300),
        ("24h", 86_400),
        ("7d", 604_800),
        ("2w", 1_209_600),
        ("1h30m", 5_400),
        ("1.5h", 5_400),
        ("90", 90),
        (" 2S ", 2),
        (0.25, 0.25),
        (3, 3),
        ("0", 0),
    ],
)
def test_spans(text: object, seconds: float) -> None:
    """Units from milliseconds to weeks, or plain seconds."""
    assert parse_span(text).total_seconds() == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "-1s", "1 parsec", "5m m", "1e9", "nan", "inf", "٣s", True, None, [], "1h 30m"]
)
def test_what_is_no_span(text: object) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="no span"):
        parse_span(text)


@given(st.timedeltas(timedelta(0), timedelta(days=10_000)))
def test_a_span_is_read_as_it_is_written(span: timedelta) -> None:
    """Writing and reading a span loses nothing."""
    assert parse_span(format_span(span)) == span


PG = {"PGHOST": "db", "PGPORT": "5433", "PGDATABASE": "seen", "PGUSER": "me", "PGPASSWORD": "p@ss/w:rd"}


@pytest.mark.parametrize(
    ("url", "environ", "filled"),
    [
        ("postgresql://", PG, "postgresql://me:p%40ss%2Fw%3Ard@db:5433/seen"),
        ("postgresql:///", PG, "postgresql://me:p%40ss%2Fw%3Ard@db:5433/seen"),
        ("postgres://", PG, "postgres://me:p%40ss%2Fw%3Ard@db:5433/seen"),
        ("postgresql://other", PG, "postgresql://me:p%40ss%2Fw%3Ard@other:5433/seen"),
        ("postgresql://you:secret@other:1/mine", PG, "postgresql://you:secret@other:1/mine"),
        ("postgresql://you@/mine", PG, "postgresql://you:p%40ss%2Fw%3Ard@db:5433/mine"),
        ("postgresql://you:a#b@db/x?sslmode=require", {}, "postgresql://you:a#b@db/x?sslmode=require"),
        ("postgresql://[::1]/x", {"PGPORT": "1"}, "postgresql://[::1]:1/x"),
        ("postgresql://a:1,b:2/x", {"PGPORT": "3"}, "postgresql://a:1,b:2/x"),
        ("postgresql:///x?host=/run/pg", {"PGHOST": "db", "PGUSER": "me"}, "postgresql://me@/x?host=/run/pg"),
        ("postgresql://?service=mine", PG, "postgresql://?service=mine"),
        ("postgresql://", {"PGHOST": "/run/pg"}, "postgresql://%2Frun%2Fpg/"),
        (
            "postgresql://",
            {"PG_HOST": "h", "PG_PORT": "1", "PG_DATABASE": "d", "PG_USER": "u", "PG_PASSWORD": "p"},
            "postgresql://u:p@h:1/d",
        ),
        (
            "postgresql://",
            {"PG_HOST": "second", "PGHOST": "first", "PG_USER": "u", "PGUSER": ""},
            "postgresql://u@first/",
        ),
        ("sqlite:///x.db", PG, "sqlite:///x.db"),
        ("memory:", PG, "memory:"),
    ],
)
def test_the_gaps_of_a_postgresql_address(url: str, environ: dict[str, str], filled: str) -> None:
    """Each gap from `PG…`, else from `PG_…`; what the address says stays, and other addresses stay as they are."""
    assert fill_postgres_address(url, environ) == filled


def test_without_such_an_address_the_variables_change_nothing() -> None:
    """A machine that has them for another program keeps its file."""
    assert load_settings({}, HOME | PG) == load_settings({}, HOME)


def test_the_gaps_are_filled_wherever_the_address_comes_from(tmp_path: Path) -> None:
    """From a flag, a variable or a file."""
    expected = "postgresql://me:p%40ss%2Fw%3Ard@db:5433/seen"
    file = write(tmp_path / "my.toml", 'database_url = "postgresql://"')
    assert load_settings({}, PG, file).database_url == expected
    assert load_settings({}, PG | {"LASTSEEN_DATABASE_URL": "postgresql://"}).database_url == expected
    assert load_settings({"database_url": "postgresql://"}, PG).database_url == expected


def test_a_filled_address_is_what_libpq_understands() -> None:
    """PostgreSQL's own parser finds each part again."""
    from psycopg.conninfo import conninfo_to_dict

    assert conninfo_to_dict(fill_postgres_address("postgresql://", PG)) == {
        "host": "db",
        "port": "5433",
        "dbname": "seen",
        "user": "me",
        "password": "p@ss/w:rd",
    }


@pytest.mark.parametrize("environ", [{"PGPORT": "many"}, {"PG_PORT": "-1"}])
def test_a_port_that_is_no_number(environ: dict[str, str]) -> None:
    """The variable is named."""
    with pytest.raises(ConfigurationError, match="PGPORT or PG_PORT"):
        fill_postgres_address("postgresql://", environ)


def test_a_password_is_shown_nowhere() -> None:
    """Neither the representation nor a message holds it."""
    assert "hunter2" not in repr(load_settings({"database_url": "postgresql://me:hunter2@db/x"}, {}))
    wrong = [
        "mysql://me:hunter2@db",
        "//me:hunter2@db",
        "postgresql://me:hunter2@db:port/x",
        "me:hunter2@db",
        "sqlite://me:hunter2@db/x",
    ]
    for address in wrong:
        with pytest.raises(ConfigurationError) as raised:
            load_settings({"database_url": address}, {})
        assert "hunter2" not in str(raised.value)


def test_the_documentation_lists_every_setting_with_its_default() -> None:
    """Name, variable, option and default, in the order of the settings, and nothing else."""
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| `([\w-]+)` \| (.+?) \| \S.* \|$", DOCUMENT.read_text("utf-8"), re.M)
    assert [(name, variable_of(name), flag_of(name), documented_default(name)) for name in SETTING_NAMES] == rows


def documented_default(name: str) -> str:
    """Write a default as the documentation does."""
    default = next(field.default for field in dataclasses.fields(Settings) if field.name == name)
    if name == "database_url":
        return "`lastseen.db` in the data folder"
    if default in (None, ()):
        return "nothing"
    if isinstance(default, timedelta):
        default = format_span(default)
    if isinstance(default, bool):
        default = str(default).lower()
    return f"`{','.join(default) if isinstance(default, tuple) else default}`"


def test_the_rule_of_new_sites_is_set_like_everything_else() -> None:
    """Spans and switches from the environment; what is no switch and what is no time are refused by name."""
    environ = {"LASTSEEN_VISIT_TIMEOUT": "10m", "LASTSEEN_NEW_VISIT_ON_UTM_CHANGE": "false"}
    rule = load_settings({}, environ).visit_rule()
    assert (rule.timeout, rule.new_visit_on_utm_change, rule.new_visit_on_referrer_change) == (
        timedelta(minutes=10),
        False,
        True,
    )
    with pytest.raises(ConfigurationError, match="LASTSEEN_NEW_VISIT_ON_UTM_CHANGE must be true or false"):
        load_settings({}, {"LASTSEEN_NEW_VISIT_ON_UTM_CHANGE": "perhaps"})
    with pytest.raises(ConfigurationError, match="visit_timeout must be longer than zero"):
        load_settings({}, {"LASTSEEN_VISIT_TIMEOUT": "0"})
