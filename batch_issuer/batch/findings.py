"""Findings about rows, sorted, however many there are: those that memory does not hold lie in sorted runs in files."""

from __future__ import annotations

import json
from heapq import merge
from itertools import chain, islice
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

from batch_issuer.devices import Rejection

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batch_issuer.scratch import Scratch, ScratchFile

__all__ = ["Findings", "RowSet"]

_Entry: TypeAlias = tuple[int, int, str, str, str, str]
"""Row, source, column, value, code, message."""

_FINDING_OCTETS = 1_500
"""What a finding takes in memory, at most about: a value is shown by 60 characters, a column's name has up to 255."""
_SHARE = 16
"""Findings take this part of the memory."""
_MERGED = 16
"""So many runs become one: a billion findings are written four times."""
_READ = 64_000
_WRITTEN = 500

_key = itemgetter(0, 1)


class Findings:
    """All findings about a manifest's rows, in the order of rows; of one row, in the order of sources.

    Args:
        scratch: how much memory there is, and where the rest goes.
    """

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._most = max(1, scratch.memory // _SHARE // _FINDING_OCTETS)
        self._held: list[_Entry] = []
        self._levels: list[list[_Run]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Rejection]:
        for row, _, *rest in self._entries():
            yield Rejection(row, *rest)

    def add(self, rejections: Iterable[Rejection], source: int = 0) -> None:
        """Take in some, in any order of rows.

        Args:
            rejections: the findings.
            source: where those of this kind stand among the findings of a row.

        Raises:
            OSError: what memory does not hold cannot be written.
        """
        for found in rejections:
            self._held.append((found.row, source, found.column, found.value, found.code, found.message))
            self._count += 1
            if len(self._held) >= self._most:
                self._put_away()

    def rows(self) -> Iterator[int]:
        """The row of each finding, in their order."""
        return map(itemgetter(0), self._entries())

    def _entries(self) -> Iterator[_Entry]:
        self._held.sort(key=_key)
        older = (run.entries() for level in reversed(self._levels) for run in level)
        return merge(*older, iter(self._held), key=_key)

    def _put_away(self) -> None:
        self._held.sort(key=_key)
        last = self._levels[0][-1] if self._levels and self._levels[0] else None
        if last is not None and _key(self._held[0]) >= last.end:
            last.append(self._held)  # what comes in order makes one run
        else:
            self._add_run(0, self._held)
        self._held = []

    def _add_run(self, level: int, entries: Iterable[_Entry]) -> None:
        if level == len(self._levels):
            self._levels.append([])
        run = _Run(self._scratch.open())
        run.append(entries)
        self._levels[level].append(run)
        if len(self._levels[level]) == _MERGED:
            self._add_run(level + 1, merge(*(run.entries() for run in self._levels[level]), key=_key))
            self._levels[level] = []


class _Run:
    """Sorted entries in a file, a line of JSON each."""

    def __init__(self, file: ScratchFile) -> None:
        self.end = (0, 0)
        self._file = file

    def append(self, entries: Iterable[_Entry]) -> None:
        """Write some that come after those that are there."""
        entries = iter(entries)
        while some := list(islice(entries, _WRITTEN)):
            self._file.append("".join(json.dumps(entry) + "\n" for entry in some).encode())
            self.end = _key(some[-1])

    def entries(self) -> Iterator[_Entry]:
        """All of them."""
        return map(_entry, chain.from_iterable(self._lines()))

    def _lines(self) -> Iterator[list[bytes]]:
        rest, size = b"", self._file.size
        for offset in range(0, size, _READ):
            *lines, rest = (rest + self._file.read(offset, min(_READ, size - offset))).split(b"\n")
            yield lines


def _entry(line: bytes) -> _Entry:
    row, source, column, value, code, message = json.loads(line)
    return row, source, column, value, code, message


class RowSet:
    """Numbers of rows, an eighth of an octet for each row of the manifest.

    `len` tells how many there are.
    """

    def __init__(self) -> None:
        self._bits = bytearray()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, row: int) -> bool:
        place = row >> 3
        return place < len(self._bits) and bool(self._bits[place] >> (row & 7) & 1)

    def add(self, row: int) -> None:
        """Put a number in."""
        place, bit = row >> 3, 1 << (row & 7)
        if place >= len(self._bits):
            self._bits.extend(bytes(place + 1 - len(self._bits)))
        if not self._bits[place] & bit:
            self._bits[place] |= bit
            self._count += 1
