"""Record who was active."""

from __future__ import annotations

from datetime import datetime

import msgspec

from lastseen.client.call import Call
from lastseen.wire.clients import ActiveHours, Recorded


class Touch(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A client was active, now or at an aware moment."""

    client_id: str
    at: datetime | None = None


def record(*client_ids: str) -> Call[Recorded]:
    """Note that these clients are active now."""
    return record_touches([Touch(client_id=client_id) for client_id in client_ids])


def record_touches(touches: list[Touch]) -> Call[Recorded]:
    """Note many activities at once; one that cannot be recorded is counted and spoils no other."""
    return Call(
        operation="RecordActivity", method="POST", template="/api/v1/activity", answer=Recorded, body=list(touches)
    )


def by_hour(*, within: str = "7d") -> Call[ActiveHours]:
    """Count the clients that were active in each hour of a span such as 48h or 7d."""
    return Call(
        operation="CountActiveClientsByHour",
        method="GET",
        template="/api/v1/activity/hours",
        answer=ActiveHours,
        query={"within": within},
    )
