"""Stretches of time: the range that is asked for, its buckets in a time zone, and what it is compared with. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum

from lastseen.clock import from_micros, to_micros
from lastseen.reports.terms import InvalidQuestion, TimeBucket

HOUR = 3_600_000_000
DAY = 24 * HOUR
_EPOCH_DAY = date(1970, 1, 1)
FIRST_DAY = date(1970, 1, 2)
LAST_DAY = date(2200, 1, 1)
"""No question reaches beyond these; nothing that is measured lies there."""


class Compare(StrEnum):
    """What a range is compared with."""

    PREVIOUS = "previous"
    """The stretch of the same length right before it; whole days stay whole days."""
    YEAR = "year"
    """The same dates a year before; 29 February is compared with the 28th."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Period:
    """From a moment up to, and without, another; on the clocks of a zone."""

    start: datetime
    end: datetime
    zone: tzinfo

    @property
    def start_micros(self) -> int:
        """Microseconds since 1970 of its first moment."""
        return to_micros(self.start)

    @property
    def end_micros(self) -> int:
        """Microseconds since 1970 of the first moment after it."""
        return to_micros(self.end)

    def before(self, compare: Compare) -> Period:
        """Return what it is compared with."""
        if compare is Compare.YEAR:
            return Period(start=self._year_before(self.start), end=self._year_before(self.end), zone=self.zone)
        first, last = self._day_begun_at(self.start), self._day_begun_at(self.end)
        if first is not None and last is not None:
            # Days on the calendar: a range with a change of the clocks in it is an hour longer or shorter.
            return Period(start=moment_of(first - (last - first), self.zone), end=self.start, zone=self.zone)
        return Period(start=self.start - (self.end - self.start), end=self.start, zone=self.zone)

    def _day_begun_at(self, moment: datetime) -> date | None:
        """Return the day that begins at a moment; None for any other. Not always at midnight, which clocks may skip."""
        day = _local(moment, self.zone).date()
        return day if moment_of(day, self.zone) == moment else None

    def _year_before(self, moment: datetime) -> datetime:
        local = self._day_begun_at(moment) or _local(moment, self.zone)
        try:
            earlier = local.replace(year=local.year - 1)
        except ValueError:
            earlier = local.replace(year=local.year - 1, day=28)
        return moment_of(earlier, self.zone)

    def offsets(self) -> Sequence[tuple[int, int]]:
        """Return the zone's offsets from UTC in it: (from when on, offset), both in microseconds, ascending."""
        found = [(self.start_micros, self._offset(self.start_micros))]
        for low in range(self.start_micros, self.end_micros, DAY):
            high = min(low + DAY, self.end_micros)
            if self._offset(high) != found[-1][1]:
                found.append((self._change(low, high), self._offset(high)))
        return found

    def _change(self, low: int, high: int) -> int:
        """Return the first moment with the offset of `high`; there is one change in between."""
        while high - low > 1:
            middle = (low + high) // 2
            if self._offset(middle) == self._offset(high):
                high = middle
            else:
                low = middle
        return high

    def _offset(self, micros: int) -> int:
        return (from_micros(micros).astimezone(self.zone).utcoffset() or timedelta(0)) // timedelta(microseconds=1)

    def buckets(self, bucket: TimeBucket) -> Sequence[int]:
        """Return the keys of all buckets that it touches, ascending; see `bucket_key`."""
        offsets = self.offsets()
        if bucket is TimeBucket.HOUR:
            # A change of the clocks may make a bucket that no step of an hour from the start falls into.
            edges = {*range(self.start_micros, self.end_micros, HOUR), self.end_micros - 1}
            edges |= {edge for at, _ in offsets[1:] for edge in (at - 1, at)}
            return sorted({bucket_key(at, bucket, offsets) for at in edges})
        first, last = (bucket_key(at, TimeBucket.DAY, offsets) for at in (self.start_micros, self.end_micros - 1))
        return sorted({_day_key(day, bucket) for day in range(first, last + 1)})


def bucket_key(micros: int, bucket: TimeBucket, offsets: Sequence[tuple[int, int]]) -> int:
    """Return the number of the bucket that a moment falls into.

    For hours the moment (microseconds, UTC) at which the hour began, so that the hour which the clocks repeat in autumn
    stays two hours; for days the days since 1970; for weeks the day of their Monday; for months those since the year 0.
    """
    offset = offsets[max(bisect_right(offsets, micros, key=lambda pair: pair[0]) - 1, 0)][1]
    if bucket is TimeBucket.HOUR:
        return (micros + offset) // HOUR * HOUR - offset
    return _day_key((micros + offset) // DAY, bucket)


def _day_key(day: int, bucket: TimeBucket) -> int:
    if bucket is TimeBucket.WEEK:
        # 1970-01-01 was a Thursday.
        return (day + 3) // 7 * 7 - 3
    if bucket is TimeBucket.MONTH:
        local = _EPOCH_DAY + timedelta(days=day)
        return local.year * 12 + local.month - 1
    return day


def bucket_label(key: int, bucket: TimeBucket, zone: tzinfo) -> str:
    """Return what a bucket is called: the moment an hour began with its offset, else the first day."""
    if bucket is TimeBucket.HOUR:
        return from_micros(key).astimezone(zone).isoformat(timespec="minutes")
    if bucket is TimeBucket.MONTH:
        return date(key // 12, key % 12 + 1, 1).isoformat()
    return (_EPOCH_DAY + timedelta(days=key)).isoformat()


def moment_of(local: datetime | date, zone: tzinfo) -> datetime:
    """Return the UTC moment of a time on the zone's clocks; a date is its midnight.

    A time that the clocks skip is read as if they had not yet been changed; of one that they show twice, the first.
    """
    if not isinstance(local, datetime):
        local = datetime.combine(local, time())
    return local.replace(tzinfo=zone).astimezone(UTC)


def _local(moment: datetime, zone: tzinfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)


def given_period(since: date | datetime, until: date | datetime, zone: tzinfo) -> Period:
    """Return the period between two dates, or aware moments; `until` is not part of it."""
    start, end = (_moment(name, value, zone) for name, value in (("from", since), ("to", until)))
    if start >= end:
        raise InvalidQuestion("to", f"must be later than from: {until} is not after {since}; to itself is left out")
    return Period(start=start, end=end, zone=zone)


def _moment(part: str, value: date | datetime, zone: tzinfo) -> datetime:
    day = value.date() if isinstance(value, datetime) else value
    if not FIRST_DAY <= day <= LAST_DAY:
        raise InvalidQuestion(part, f"must be from {FIRST_DAY} to {LAST_DAY}, not {value}")
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    return moment_of(value, zone)


def last_period(span: timedelta, now: datetime, zone: tzinfo) -> Period:
    """Return the last days up to the end of today; a span that is not of whole days ends now."""
    if span % timedelta(days=1):
        return Period(start=now - span, end=now.astimezone(UTC), zone=zone)
    tomorrow = _local(now, zone).date() + timedelta(days=1)
    return Period(start=moment_of(tomorrow - span, zone), end=moment_of(tomorrow, zone), zone=zone)


def count_buckets(period: Period, bucket: TimeBucket) -> int:
    """Return about how many buckets a period has, without making them."""
    hours = (period.end_micros - period.start_micros) // HOUR + 1
    return hours // {TimeBucket.HOUR: 1, TimeBucket.DAY: 24, TimeBucket.WEEK: 168, TimeBucket.MONTH: 672}[bucket] + 1
