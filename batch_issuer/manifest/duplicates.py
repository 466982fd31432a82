"""What is in the manifest more than once: devices, and keys that devices bring."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from batch_issuer.devices import Rejection
from batch_issuer.manifest.partitions import Partitions, hashes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batch_issuer.manifest.partitions import Group
    from batch_issuer.scratch import Scratch

__all__ = ["UniqueDevices", "UniqueKeys"]

_AT_ONCE = 10_000
"""Findings that are made into Python objects together."""


class _Unique:
    """Values and their rows, of which those are found that repeat another's."""

    def __init__(self, scratch: Scratch) -> None:
        self._partitions = Partitions(scratch)

    def __len__(self) -> int:
        return len(self._partitions)

    @property
    def spilled(self) -> int:
        """Octets that memory did not hold."""
        return self._partitions.spilled

    def add(self, rows: Iterable[pa.Array], values: bytes) -> None:
        """Take in some rows: their numbers, int64, and their values, one after the other.

        Raises:
            OSError: what memory does not hold cannot be written.
        """
        self._partitions.add(rows, values)

    def distinct(self) -> Iterator[pa.Table]:
        """Every value once, `value`, with the first `row` that has it, in tables of bounded size."""
        for group in self._partitions.groups():
            counted = _counted(group)
            if counted is None:
                yield from group.pieces()
            else:
                yield counted.select(["row", "value"]).combine_chunks()

    def again(self) -> Iterator[tuple[int, bytes, int]]:
        """Each row whose value a row before it has, with the value and the first such row; group by group."""
        for group in self._partitions.groups():
            counted = _counted(group)
            if counted is None:
                continue
            repeated = counted.filter(pc.greater(counted["count"], 1)).combine_chunks()
            for piece in group.pieces() if len(repeated) else ():
                yield from _repeats(piece, repeated)


def _counted(group: Group) -> pa.Table | None:
    """Each value of a group with its first `row` and its `count`; None if no value comes again."""
    counted = None
    for piece in group.pieces():
        # Distinct when hashed is surely distinct, at a fifth of the exact test's cost; alike decides nothing.
        if group.whole and len(pc.unique(hashes(piece["value"].chunk(0)))) == len(piece):
            return None
        fresh = piece.append_column("count", pa.repeat(1, len(piece)))
        counted = fresh if counted is None else pa.concat_tables([counted, fresh])
        counted = counted.group_by("value", use_threads=False).aggregate([("row", "min"), ("count", "sum")])
        counted = counted.rename_columns(["value", "row", "count"]).select(["row", "value", "count"])
    return counted


def _repeats(piece: pa.Table, repeated: pa.Table) -> Iterator[tuple[int, bytes, int]]:
    places = pc.index_in(piece["value"], value_set=repeated["value"].combine_chunks())
    piece = piece.append_column("first", repeated["row"].take(places))
    piece = piece.filter(pc.not_equal(piece["row"], piece["first"])).sort_by("row")
    for batch in piece.to_batches(max_chunksize=_AT_ONCE):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


class UniqueDevices(_Unique):
    """Finds UUIDs that come again.

    Args:
        column: the UUID column's name in the manifest.
        scratch: how much memory there is, and where the rest goes.
    """

    def __init__(self, column: str, scratch: Scratch) -> None:
        super().__init__(scratch)
        self.column = column

    def add_text(self, rows: pa.ChunkedArray, device_uuids: pa.ChunkedArray) -> None:
        """Take in some devices: their row numbers, and their UUIDs in lower-case text.

        Raises:
            OSError: what memory does not hold cannot be written.
        """
        self.add(rows.chunks, b"".join(map(_uuid_octets, device_uuids.chunks)))

    def rejections(self) -> Iterator[Rejection]:
        """A finding for each row whose UUID a row before it has, naming both; in no order, if memory held not all."""
        return (self._rejection(row, uuid.hex(), first) for row, uuid, first in self.again())

    def _rejection(self, row: int, h: str, first: int) -> Rejection:
        uuid = f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
        message = f"row {row}, column {self.column!r}: {uuid} is in row {first} already"
        return Rejection(row, self.column, uuid, "uuid-duplicate", message)


class UniqueKeys(_Unique):
    """Finds public keys that come again, among those that devices bring.

    Args:
        column: the CSR column's name in the manifest.
        scratch: how much memory there is, and where the rest goes.
    """

    def __init__(self, column: str, scratch: Scratch) -> None:
        super().__init__(scratch)
        self.column = column

    def add_digests(self, rows: bytes, keys: bytes) -> None:
        """Take in some rows, each with a good CSR.

        Args:
            rows: their numbers, 8 octets each in this machine's order.
            keys: of each the first `KEY_OCTETS` octets of its SubjectPublicKeyInfo's SHA-256.

        Raises:
            OSError: what memory does not hold cannot be written.
        """
        self.add([pa.Array.from_buffers(pa.int64(), len(rows) // 8, [None, pa.py_buffer(rows)])], keys)

    def rejections(self) -> Iterator[Rejection]:
        """A finding for each row whose key a row before it has, naming both; in no order, if memory held not all."""
        return (self._rejection(row, f"{key.hex()}…", first) for row, key, first in self.again())

    def _rejection(self, row: int, key: str, first: int) -> Rejection:
        message = f"row {row}, column {self.column!r}: its public key (SHA-256 {key}) is that of row {first} already"
        return Rejection(row, self.column, key, "csr-duplicate-key", message)


def _uuid_octets(device_uuids: pa.Array) -> bytes:
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(device_uuids)], pa.int32()), device_uuids), "")
    return bytes.fromhex(joined[0].as_py().replace("-", ""))
