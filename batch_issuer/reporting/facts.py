"""What a report shows, as values; and how it writes times and rates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.output.record import RunRecord
    from batch_issuer.reporting.tally import Tally
    from batch_issuer.reporting.times import PartTimes, Session

__all__ = ["Facts", "Outcome", "clock", "duration", "per_second"]

_MINUTE = 60
_FEW_SECONDS = 10


class Outcome(Protocol):
    """A run's summary, as far as a report shows it; the attributes are those of `summary.json`."""

    @property
    def out(self) -> str: ...  # noqa: D102 - `batch.summary.Summary` says what each is
    @property
    def devices(self) -> int: ...  # noqa: D102
    @property
    def devices_now(self) -> int: ...  # noqa: D102
    @property
    def rejected(self) -> int: ...  # noqa: D102
    @property
    def plan_seconds(self) -> float: ...  # noqa: D102
    @property
    def start_seconds(self) -> float: ...  # noqa: D102
    @property
    def issue_seconds(self) -> float: ...  # noqa: D102
    @property
    def finish_seconds(self) -> float: ...  # noqa: D102
    @property
    def devices_per_second(self) -> float: ...  # noqa: D102
    @property
    def workers(self) -> int: ...  # noqa: D102
    @property
    def key_engine(self) -> str: ...  # noqa: D102
    @property
    def reissued(self) -> int: ...  # noqa: D102
    @property
    def warnings(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def linted_by(self) -> str | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a report is made of; no secret.

    Attributes:
        record: what was asked.
        outcome: what came out.
        pki: the PKI directory, as it was given.
        times: when the parts were made.
        sessions: the commands that made them, in the order of time.
        tally: the rejected rows by reason.
    """

    record: RunRecord
    outcome: Outcome
    pki: Path
    times: PartTimes
    sessions: list[Session]
    tally: Tally

    @property
    def seconds(self) -> float:
        """What the last command took."""
        spent = self.outcome
        return spent.plan_seconds + spent.start_seconds + spent.issue_seconds + spent.finish_seconds

    @property
    def of_floor(self) -> float | None:
        """The last command's rate as a share of its floor; None where there is none."""
        floor = self.sessions[-1].floor if self.sessions and self.outcome.devices_now else None
        return None if floor is None else self.outcome.devices_per_second / floor


def clock(milliseconds: int) -> str:
    """A moment, milliseconds since 1970 in UTC, to the second."""
    return f"{datetime.fromtimestamp(milliseconds // 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def duration(seconds: float) -> str:
    """A time as a person reads it."""
    if seconds < 1:
        return f"{seconds * 1000:,.0f} ms"
    if seconds < _FEW_SECONDS:
        return f"{seconds:.2f} s"
    if seconds < 2 * _MINUTE:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(round(seconds / _MINUTE), 60)
    return " ".join(text for text in (f"{hours:,} h" * bool(hours), f"{minutes} min" * bool(minutes)) if text)


def per_second(rate: float) -> str:
    """A rate in devices per second."""
    return f"{rate:,.0f}/s" if rate >= _FEW_SECONDS else f"{rate:.1f}/s"
