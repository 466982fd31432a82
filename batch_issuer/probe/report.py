"""What a probe found, counted while it goes on."""

from __future__ import annotations

from array import array
from collections import defaultdict
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

from batch_issuer.probe.faults import EXPLANATIONS

if TYPE_CHECKING:
    from batch_issuer.probe.exchange import Passed
    from batch_issuer.probe.faults import ProbeError

__all__ = ["Failures", "Latency", "Report", "Tally"]

_EXAMPLES = 5
_MOST_DETAILS = 50
_OTHER = "other reasons"
_ORDER = {code: place for place, code in enumerate(EXPLANATIONS)}


@dataclass(frozen=True, slots=True)
class Failures:
    """Devices that failed for one reason.

    Attributes:
        code: one of `EXPLANATIONS`.
        count: how many.
        explanation: what the code means.
        detail: what was seen.
        examples: UUIDs of the first of them.
    """

    code: str
    count: int
    explanation: str
    detail: str
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds that devices took: of half, 95 and 99 in a hundred of them at most, and the longest."""

    median: float
    p95: float
    p99: float
    longest: float

    @classmethod
    def of(cls, seconds: array[float]) -> Latency | None:
        """Of these, by nearest rank; None of none."""
        if not seconds:
            return None
        ordered = sorted(seconds)
        median, p95, p99 = (ordered[ceil(share * len(ordered)) - 1] for share in (0.5, 0.95, 0.99))
        return cls(median, p95, p99, ordered[-1])


@dataclass(frozen=True, slots=True)
class Report:
    """What a probe found.

    Attributes:
        gateway: host:port that was connected to.
        server_name: what its certificate had to be for.
        issued: devices that the run issued.
        chosen: devices to be probed.
        seed: of the sample, None when all devices were chosen.
        probed: devices that were.
        passed: devices that the gateway let in, and took for what they are.
        unconfirmed: of these, those of which the gateway did not say whom it took them for.
        failures: the others, by reason, in the order of `EXPLANATIONS` and then the most frequent first.
        seconds: from the first device to the last.
        handshake: of the devices that passed: TCP connection and TLS handshake.
        exchange: of the same: that, and both requests.
        complete: whether the run is finished.
        gave_up: why the probe ended before all were probed, None if it did not.
        interrupted: whether a signal ended it.
    """

    gateway: str
    server_name: str
    issued: int
    chosen: int
    seed: int | None
    probed: int
    passed: int
    unconfirmed: int
    failures: tuple[Failures, ...]
    seconds: float
    handshake: Latency | None
    exchange: Latency | None
    complete: bool
    gave_up: str | None = None
    interrupted: bool = False

    @property
    def clean(self) -> bool:
        """Whether every chosen device passed."""
        return self.passed == self.chosen

    @property
    def rate(self) -> float:
        """Devices per second."""
        return self.probed / max(self.seconds, 1e-9)


@dataclass(slots=True)
class _Reason:
    count: int = 0
    examples: list[str] = field(default_factory=list)


class Tally:
    """Counts devices as they are probed, in a few octets per device.

    Attributes:
        passed: devices that passed.
        unconfirmed: of these, those that the gateway did not name.
        absences: devices for which the gateway was not there.
        absent_for: so many of these in a row, up to the last device.
        reached: whether it was there for any.
        handshakes: seconds, of each that passed.
        exchanges: the same.
        absence: what the last device saw for which the gateway was not there.
    """

    def __init__(self) -> None:
        self.passed = self.unconfirmed = self.absences = self.absent_for = 0
        self.reached = False
        self.absence = ""
        self.handshakes, self.exchanges = array("d"), array("d")
        self._reasons: defaultdict[tuple[str, str], _Reason] = defaultdict(_Reason)

    @property
    def probed(self) -> int:
        """Devices so far."""
        return self.passed + sum(reason.count for reason in self._reasons.values())

    def add_passed(self, passed: Passed) -> None:
        """One more passed."""
        self.passed += 1
        self.unconfirmed += not passed.confirmed
        self.handshakes.append(passed.handshake_seconds)
        self.exchanges.append(passed.seconds)
        self.reached, self.absent_for = True, 0

    def add_failed(self, device_uuid: str, fault: ProbeError) -> None:
        """One more failed."""
        key = (fault.code, fault.detail)
        if key not in self._reasons and len(self._reasons) >= _MOST_DETAILS:
            key = (fault.code, _OTHER)
        reason = self._reasons[key]
        reason.count += 1
        if len(reason.examples) < _EXAMPLES:
            reason.examples.append(device_uuid)
        if fault.absent:
            self.absences += 1
            self.absent_for += 1
            self.absence = fault.detail
        elif fault.code != "bundle-damaged":  # of which the gateway knows nothing
            self.reached, self.absent_for = True, 0

    def failures(self) -> tuple[Failures, ...]:
        """All reasons."""
        found = [
            Failures(code, reason.count, EXPLANATIONS[code], detail, tuple(reason.examples))
            for (code, detail), reason in self._reasons.items()
        ]
        return tuple(sorted(found, key=lambda one: (_ORDER[one.code], -one.count, one.detail)))
