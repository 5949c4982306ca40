"""Status words for "how long ago"."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from lastseen.errors import ConfigurationError


class ClientStatus(StrEnum):
    """How long ago something was last seen, in one word."""

    ONLINE = "online"
    RECENT = "recent"
    IDLE = "idle"
    INACTIVE = "inactive"


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusRule:
    """Where one status word ends and the next begins; each span itself already belongs to the next word."""

    online: timedelta = timedelta(minutes=5)
    recent: timedelta = timedelta(hours=1)
    idle: timedelta = timedelta(hours=24)

    def __post_init__(self) -> None:
        if not timedelta(0) < self.online < self.recent < self.idle:
            raise ConfigurationError("status spans must grow: 0 < online < recent < idle")

    def status(self, last_seen_at: datetime, now: datetime) -> ClientStatus:
        """Return the word for something that was last seen then, looked at now."""
        age = now - last_seen_at
        if age < self.online:
            return ClientStatus.ONLINE
        if age < self.recent:
            return ClientStatus.RECENT
        if age < self.idle:
            return ClientStatus.IDLE
        return ClientStatus.INACTIVE

    def window(self, status: ClientStatus, now: datetime) -> tuple[datetime | None, datetime | None]:
        """Return (seen after, seen until): a status word is exactly `after < last_seen_at <= until`; None is open."""
        ends = [None, now - self.online, now - self.recent, now - self.idle, None]
        position = list(ClientStatus).index(status)
        return ends[position + 1], ends[position]
