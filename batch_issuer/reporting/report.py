"""A run's report in the making: told of every part and every finding once, it becomes one page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_issuer.reporting.facts import Facts
from batch_issuer.reporting.page import page
from batch_issuer.reporting.tally import Tally
from batch_issuer.reporting.times import PartTimes

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.devices import Rejections
    from batch_issuer.output.record import RunRecord
    from batch_issuer.output.timing import PartTiming
    from batch_issuer.reporting.facts import Outcome

__all__ = ["RunReport"]


class RunReport:
    """What becomes `report.html`.

    Args:
        record: what was asked of the run.
        pki: the PKI directory, as it was given: for the commands that the page names.
    """

    def __init__(self, record: RunRecord, pki: Path) -> None:
        self._record, self._pki = record, pki
        self._times = PartTimes()
        self._tally = Tally(())

    def part(self, devices: int, timing: PartTiming | None) -> None:
        """The next committed part, in the run's order.

        Args:
            devices: how many it has.
            timing: what its commit record says of its making.
        """
        self._times.add(devices, timing)

    def tallied(self, rejections: Rejections) -> Rejections:
        """The same findings, counted as they are gone through."""
        self._tally = Tally(rejections)
        return self._tally

    def page(self, outcome: Outcome) -> bytes:
        """The page's octets, UTF-8.

        Args:
            outcome: the run's summary.
        """
        return page(Facts(self._record, outcome, self._pki, self._times, self._times.sessions(), self._tally))
