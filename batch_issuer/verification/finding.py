"""What verification finds: faults, the findings that they become, and a bounded collection of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from batch_issuer.verification.readable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MOST_KEPT", "MOST_OF_ONE", "Fault", "Finding", "Findings"]

MOST_KEPT = 1000
"""Findings that are kept whole; all are counted."""

MOST_OF_ONE = 100
"""Of these, findings of one code."""


class Fault(NamedTuple):
    """What is wrong with a thing, said by a check that does not know where the thing is.

    Attributes:
        code: its short name, stable between versions.
        message: the rule, what was expected and what was found, without any secret.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault and where it is.

    Attributes:
        code: its short name, stable between versions.
        message: the rule, what was expected and what was found, without any secret.
        row: the 1-based data row of the manifest that was issued from, None if it is not about one.
        device_uuid: the device, None if it is not about one.
        place: the file or folder below the output folder.
    """

    code: str
    message: str
    row: int | None
    device_uuid: str | None
    place: str

    def __str__(self) -> str:
        where = [self.place]
        if self.row is not None:
            where.append(f"row {self.row}")
        if self.device_uuid is not None and self.device_uuid not in self.place:
            where.append(self.device_uuid)
        return printable(f"{', '.join(where)}: {self.message} [{self.code}]")


class Findings:
    """The first findings, and how many there are of each code. Picklable.

    Attributes:
        kept: at most `MOST_OF_ONE` of each code and `MOST_KEPT` in all, so that one fault of a million devices does
            not hide another.
        counts: all of them, by code.
    """

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.counts: Counter[str] = Counter()
        self._kept_of: Counter[str] = Counter()

    def add(
        self, faults: Iterable[Fault], place: str, *, row: int | None = None, device_uuid: str | None = None
    ) -> None:
        """Take faults as findings at a place."""
        for fault in faults:
            self.counts[fault.code] += 1
            self._keep(Finding(fault.code, fault.message, row, device_uuid, place))

    def merge(self, other: Findings) -> None:
        """Take over another collection's findings."""
        self.counts.update(other.counts)
        for finding in other.kept:
            self._keep(finding)

    def _keep(self, finding: Finding) -> None:
        if len(self.kept) < MOST_KEPT and self._kept_of[finding.code] < MOST_OF_ONE:
            self._kept_of[finding.code] += 1
            self.kept.append(finding)
