"""Rejected rows by reason, counted while they pass by on their way to `rejects.csv`: nobody reads millions twice."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_issuer.devices import Rejection, Rejections

__all__ = ["EXAMPLES", "Tally"]

EXAMPLES = 3
"""Of each reason so many are shown."""


class Tally:
    """Findings that are counted as they are gone through; themselves `Rejections`.

    Args:
        rejections: the findings.

    Attributes:
        counts: how many there are of each code; of all, once they were gone through.
        examples: the first few of each code.
    """

    def __init__(self, rejections: Rejections) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[Rejection]] = {}
        self._rejections = rejections

    def __len__(self) -> int:
        return len(self._rejections)

    def __iter__(self) -> Iterator[Rejection]:
        self.counts.clear()
        self.examples.clear()
        for found in self._rejections:
            self.counts[found.code] += 1
            if self.counts[found.code] <= EXAMPLES:
                self.examples.setdefault(found.code, []).append(found)
            yield found
