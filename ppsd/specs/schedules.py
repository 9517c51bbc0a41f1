"""When a cron input ticks: cron expressions, and `@every DURATION`. Pure; all times are UTC.

An expression has five fields (minute, hour, day of month, month, day of week) or six, of which the first is the
second; `@yearly`, `@monthly`, `@weekly`, `@daily` and `@hourly` are understood too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from croniter import croniter
from croniter.croniter import CroniterError

from pfsd.errors import InvalidError, shown
from ppsd.specs import durations

SECOND_NS = 10**9
LAST_NS = 8_000_000_000 * SECOND_NS
"""In the year 2223: no schedule starts later."""
MAX_SPEC = 500
"""Characters of a schedule: all seconds, written out, and as much again."""

_EVERY = "@every"
_RANDOM = re.compile(r"(?:^|[\s,])[rh](?:[\s,/(]|$)", re.IGNORECASE)
"""Fields that croniter draws by lot or from a hash: they would not name the same times twice."""
_FIELDS = (5, 6)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The times at which a cron input ticks, all after `start_ns`."""

    spec: str
    start_ns: int = 0
    """Nanoseconds since the epoch; 0 until the pipeline is made, for the time at which it is."""


def check(spec: str, field: str) -> None:
    """Raise InvalidError, naming `field`, where `spec` is no schedule, or one that never ticks."""
    if not spec:
        raise InvalidError(f'{field} is missing: give a schedule such as "*/10 * * * *" or "@every 1h30m"')
    if len(spec) > MAX_SPEC:
        raise InvalidError(f"{field} should have at most {MAX_SPEC} characters, and is {shown(spec)}")
    try:
        if spec.split()[0] == _EVERY:
            if _every_ns(spec, field) < SECOND_NS:
                raise InvalidError(f"{field} should leave at least a second between two ticks, and is {spec!r}")
        else:
            if not spec.startswith("@") and len(spec.split()) not in _FIELDS:
                raise InvalidError(f"{field} should have five or six fields, and is {spec!r}")
            if _RANDOM.search(spec):
                raise InvalidError(f"{field} may not leave a time to chance: {spec!r}")
            _cron(spec, 0).get_next(float)
    except (CroniterError, IndexError) as error:
        raise InvalidError(f'{field} should be a schedule such as "*/10 * * * *", not {spec!r}: {error}') from None


def next_tick(schedule: Schedule, after_ns: int) -> int:
    """The first tick after `after_ns`, both in nanoseconds since the epoch."""
    after_ns = max(after_ns, schedule.start_ns)
    if schedule.spec.startswith(_EVERY):
        every = _every_ns(schedule.spec, "the schedule")
        anchor = _whole_second(schedule.start_ns)
        return anchor + ((after_ns - anchor) // every + 1) * every
    return int(_cron(schedule.spec, after_ns / SECOND_NS).get_next(float)) * SECOND_NS


def ticks(schedule: Schedule, after_ns: int, until_ns: int, most: int) -> list[int]:
    """The last `most` ticks after `after_ns` and up to `until_ns`, oldest first."""
    after_ns = max(after_ns, schedule.start_ns)
    found: list[int] = []
    if schedule.spec.startswith(_EVERY):
        every = _every_ns(schedule.spec, "the schedule")
        at = next_tick(schedule, until_ns) - every
        while at > after_ns and len(found) < most:
            found.append(at)
            at -= every
    else:
        # A second later, for what comes before it includes `until_ns`.
        backward = _cron(schedule.spec, until_ns // SECOND_NS + 1)
        while len(found) < most and (at := int(backward.get_prev(float)) * SECOND_NS) > after_ns:
            found.append(at)
    return found[::-1]


def _cron(spec: str, start: float) -> croniter:
    return croniter(spec, start, second_at_beginning=True)


def _every_ns(spec: str, field: str) -> int:
    return durations.parse(spec.removeprefix(_EVERY).strip(), field)


def _whole_second(time_ns: int) -> int:
    return time_ns // SECOND_NS * SECOND_NS
