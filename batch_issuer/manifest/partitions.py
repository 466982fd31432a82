"""Rows by a value of theirs, so that equal values can be looked at together, however many rows there are.

Rows are taken in by the stripe. A stripe is sorted by 12 bits of a hash of its values and kept as a run, in memory
while the runs of all stripes fit into what there is, else in a file. Rows of equal values are then in the same of 4096
partitions, and neighbouring partitions are read together, as many as fit: a few slices of each run.

A partition is too large to be held only if values in it are repeated, since the hash is keyed anew by each process.
"""

from __future__ import annotations

import secrets
from array import array
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from batch_issuer.scratch import Scratch, ScratchFile

__all__ = ["KEY_OCTETS", "Group", "Partitions", "hashes"]

KEY_OCTETS = 16
"""Octets by which values are told apart: all of a UUID's, and 128 bits of a public key's digest."""

_ROW_OCTETS = 8
_RECORD = KEY_OCTETS + _ROW_OCTETS
_BITS = 12
_STRIPE = 1_000_000
"""Rows that are sorted together: enough to be read back in long pieces, few beside the memory of any machine."""
_SORTING = 16
"""A stripe takes at most this part of the memory: sorting it takes three times as much."""
_RUNS = 4
"""Runs are kept in memory up to this part of it."""
_LOOKING = 800
"""Octets per row that looking at a group takes, with the tables that tell distinct hashes and values."""

_MULTIPLIERS = tuple(pa.scalar(secrets.randbits(64) | 1, pa.uint64()) for _ in range(2))
"""Of this process: nobody can make a manifest whose values all have one hash."""


class _Run(NamedTuple):
    """A sorted stripe: where each partition begins, and its columns, in memory or at an offset of the file."""

    starts: array[int]
    columns: tuple[bytes | pa.Buffer, bytes | pa.Buffer] | None
    offset: int


class Group(NamedTuple):
    """Rows that share no value with rows of another group.

    Attributes:
        pieces: gives them anew with every call, in tables of bounded size: `row`, int64, and `value`.
        whole: whether that is one table.
    """

    pieces: Callable[[], Iterator[pa.Table]]
    whole: bool


class Partitions:
    """Values of `KEY_OCTETS` octets and the rows that have them, 24 octets for each.

    Args:
        scratch: how much memory there is, and where the rest goes.
    """

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._stripe = max(1, min(_STRIPE, scratch.memory // _SORTING // _RECORD))
        self._group = max(1, scratch.memory // 2 // _LOOKING)
        self._waiting: list[tuple[pa.Array, bytes]] = []
        self._waiting_rows = self._held = 0
        self._runs: list[_Run] = []
        self._sizes = [0] * (1 << _BITS)
        self._file: ScratchFile | None = None

    def __len__(self) -> int:
        return self._waiting_rows + sum(run.starts[-1] for run in self._runs)

    @property
    def spilled(self) -> int:
        """Octets that are in a file."""
        return 0 if self._file is None else self._file.size

    def add(self, rows: Iterable[pa.Array], values: bytes) -> None:
        """Take in some rows: their numbers, int64, and their values, one after the other.

        Raises:
            OSError: the file cannot be written.
        """
        start = 0
        for numbers in rows:
            end = start + KEY_OCTETS * len(numbers)
            self._waiting.append((numbers, values[start:end]))
            start = end
            self._waiting_rows += len(numbers)
        if self._waiting_rows >= self._stripe:
            self._sort()

    def groups(self) -> Iterator[Group]:
        """All rows, in groups as large as memory can look at; in a group, rows are in the order in which they came.

        Raises:
            OSError: the file cannot be written or read.
        """
        if not self._runs:
            if self._waiting_rows:
                table = _table(*self._taken())
                yield Group(lambda: iter([table]), whole=True)
            return
        if self._waiting_rows:
            self._sort()
        begin, size = 0, 0
        for place, rows in enumerate([*self._sizes, self._group]):
            if size and size + rows > self._group:
                yield Group(partial(self._pieces, begin, place), whole=size <= self._group)
                begin, size = place, 0
            size += rows

    def _taken(self) -> tuple[pa.Array, pa.Array]:
        octets = b"".join(values for _, values in self._waiting)
        rows = pa.chunked_array([rows for rows, _ in self._waiting], pa.int64()).combine_chunks()
        self._waiting = [(rows, octets)]
        return rows, _values(octets)

    def _sort(self) -> None:
        """Make the waiting rows a run, and write all runs if memory holds no more."""
        rows, values = self._taken()
        partitions = pc.shift_right(hashes(values), pa.scalar(64 - _BITS, pa.uint64())).cast(pa.uint16())
        order = pc.sort_indices(partitions)  # of so few numbers Arrow sorts by counting, and keeps the order of equals
        sizes = [0] * len(self._sizes)
        for counted in pc.value_counts(partitions).to_pylist():
            sizes[counted["values"]] = counted["counts"]
            self._sizes[counted["values"]] += counted["counts"]
        columns = (values.take(order).buffers()[1], rows.take(order).buffers()[1])
        self._runs.append(_Run(array("q", accumulate(sizes, initial=0)), columns, 0))
        self._held += _RECORD * len(rows)
        self._waiting, self._waiting_rows = [], 0
        if self._held > self._scratch.memory // _RUNS:
            self._runs = [run if run.columns is None else self._write(run) for run in self._runs]
            self._held = 0

    def _write(self, run: _Run) -> _Run:
        if self._file is None:
            self._file = self._scratch.open()
        offset, rows = self._file.size, run.starts[-1]
        assert run.columns is not None  # noqa: S101 - who calls has looked
        for octets, column in zip((KEY_OCTETS, _ROW_OCTETS), run.columns, strict=True):
            self._file.append(memoryview(column)[: octets * rows])
        return _Run(run.starts, None, offset)

    def _pieces(self, begin: int, end: int) -> Iterator[pa.Table]:
        """The rows of the partitions from `begin` to before `end`."""
        rows: list[bytes | pa.Buffer] = []
        values: list[bytes | pa.Buffer] = []
        size = 0
        for run in self._runs:
            for first in range(run.starts[begin], run.starts[end], self._group):
                last = min(first + self._group, run.starts[end])
                if size and size + last - first > self._group:
                    yield _table(_numbers(b"".join(rows)), _values(b"".join(values)))
                    rows, values, size = [], [], 0
                values.append(self._slice(run, 0, KEY_OCTETS, first, last))
                rows.append(self._slice(run, KEY_OCTETS * run.starts[-1], _ROW_OCTETS, first, last))
                size += last - first
        yield _table(_numbers(b"".join(rows)), _values(b"".join(values)))

    def _slice(self, run: _Run, before: int, octets: int, first: int, last: int) -> bytes | pa.Buffer:
        if run.columns is None:
            assert self._file is not None  # noqa: S101 - the run is in it
            return self._file.read(run.offset + before + octets * first, octets * (last - first))
        column = run.columns[0 if octets == KEY_OCTETS else 1]
        return memoryview(column)[octets * first : octets * last]


def hashes(values: pa.Array) -> pa.Array:
    """A hash of each value, uint64; equal values have equal ones."""
    halves = array("Q")
    halves.frombytes(values.buffers()[1].slice(KEY_OCTETS * values.offset, KEY_OCTETS * len(values)))
    products = (
        pc.multiply(pa.Array.from_buffers(pa.uint64(), len(half), [None, pa.py_buffer(half)]), multiplier)
        for half, multiplier in zip((halves[::2], halves[1::2]), _MULTIPLIERS, strict=True)
    )
    return pc.add(*products)


def _values(octets: bytes) -> pa.Array:
    return pa.Array.from_buffers(pa.binary(KEY_OCTETS), len(octets) // KEY_OCTETS, [None, pa.py_buffer(octets)])


def _numbers(octets: bytes) -> pa.Array:
    return pa.Array.from_buffers(pa.int64(), len(octets) // _ROW_OCTETS, [None, pa.py_buffer(octets)])


def _table(rows: pa.Array, values: pa.Array) -> pa.Table:
    return pa.table({"row": rows, "value": values})
