"""Whether anybody answers at a PostgreSQL address, whatever the answer is."""

from __future__ import annotations

import socket

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

_SECONDS = 2
"""The least that libpq takes for a limit."""
_AWAY = {pq.Ping.REJECT, pq.Ping.NO_RESPONSE}
"""It answers that it is just starting or stopping; it does not answer."""


def is_away(url: str) -> bool:
    """Return whether the server does not answer, or only to say that it is starting.

    A refused connection does not tell by itself: libpq puts the reason into words, in the language of the server. Its
    own question (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PQPING) tells without them. A host
    whose name nobody knows is not away but mistyped.
    """
    try:
        hosts = str(conninfo_to_dict(url).get("host") or "").split(",")
        if not any(map(_may_be_known, hosts)):
            return False
        return pq.PGconn.ping(make_conninfo(url, connect_timeout=_SECONDS).encode()) in _AWAY
    except psycopg.Error:
        return False


def _may_be_known(host: str) -> bool:
    if not host or host.startswith(("/", "@")):  # a socket of this machine
        return True
    try:
        socket.getaddrinfo(host, None)
    except socket.gaierror as error:
        return error.errno != socket.EAI_NONAME
    except UnicodeError:  # an empty or an overlong part
        return False
    return True
