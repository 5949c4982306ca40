"""`lastseen accounts`: who may sign in at the server, and the way back in for who forgot the password."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from lastseen.accounts.account import Account
from lastseen.accounts.manager import LINK_LIFE, Accounts, Actor
from lastseen.cli.opening import open_for_reading
from lastseen.cli.options import JsonOption, with_settings
from lastseen.cli.output import absolute, console, print_json, print_table
from lastseen.settings import Settings
from lastseen.wire.users import UserList, UserView

EXAMPLES = """\
[bold]Examples[/bold]

  lastseen accounts list
  lastseen accounts link ada     [dim]she has forgotten her password[/dim]

Both work on the database itself, also beside a running server: whoever can write to it needs no password.
"""
ACTOR = Actor(name="command line")

group = typer.Typer(no_args_is_help=True, help="The server's accounts: list, one-time link.", epilog=EXAMPLES)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="accounts")


@group.command("list")
@with_settings()
def list_accounts(*, as_json: JsonOption = False, settings: Settings) -> None:
    """List who may sign in, by name."""
    with _opened(settings) as accounts:
        found = accounts.all()
        users = [UserView.of(account, accounts.sessions_of(account.user_id)) for account in found if as_json]
    if as_json:
        print_json(UserList(users=users))
    elif not found:
        console(stderr=True).print("no accounts; lastseen serve prints the link that makes the first one")
    else:
        print_table(["NAME", "ROLE", "STATE", "GROUP", "CREATED"], [_row(account) for account in found])


@group.command()
@with_settings()
def link(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The account's name, as the list shows it.")],
    *,
    as_json: JsonOption = False,
    settings: Settings,
) -> None:
    """Make a one-time link with which the owner of an account chooses a new password.

    It is printed here and nowhere else, and ends the link before. The old password works until the link is used.
    """
    with _opened(settings) as accounts:
        account = accounts.named(name)
        path = f"/welcome/{accounts.new_link(ACTOR, account.user_id)}"
    expires_at = datetime.now(UTC) + LINK_LIFE
    if as_json:
        print_json({"name": account.name, "path": path, "expires_at": absolute(expires_at)})
        return
    typer.echo(path)
    text = f"works once, until {absolute(expires_at)}; open it at the server's address, as in http://127.0.0.1:8080"
    console(stderr=True).print(f"{text}{path[:9]}…", style="dim")


@contextmanager
def _opened(settings: Settings) -> Iterator[Accounts]:
    with open_for_reading(settings) as seen:
        accounts = Accounts(seen.store.accounts, seen.store.sessions)
        try:
            yield accounts
        finally:
            accounts.close()


def _row(account: Account) -> list[Text | str]:
    return [account.name, account.role.value, _state(account), account.group_id or "-", absolute(account.created_at)]


def _state(account: Account) -> str:
    if not account.is_enabled:
        return "disabled"
    return "enabled" if account.has_password else "no password yet"
