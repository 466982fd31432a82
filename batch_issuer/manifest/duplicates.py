"""What is in the manifest more than once: devices, and keys that devices bring."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from batch_issuer.devices import Rejection

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["KEY_OCTETS", "UniqueDevices", "UniqueKeys"]

KEY_OCTETS = 16
"""Octets by which values are told apart: all of a UUID's, and 128 bits of a public key's digest."""


class _Values:
    """Values of `KEY_OCTETS` octets and the rows that have them; holds 32 octets per row."""

    def __init__(self) -> None:
        self._values: list[bytes] = []
        self._folded: list[pa.Array] = []
        self._rows: list[pa.Array] = []

    def add(self, rows: Iterable[pa.Array], values: bytes) -> None:
        """Take in some rows: their numbers, int64, and their values, one after the other."""
        self._values.append(values)
        self._folded.append(_folded(values))
        self._rows += rows

    def table(self) -> pa.Table:
        """All of them as they came: `row`, int64, and `value`, `KEY_OCTETS` octets."""
        octets = b"".join(self._values)
        values = pa.Array.from_buffers(pa.binary(KEY_OCTETS), len(octets) // KEY_OCTETS, [None, pa.py_buffer(octets)])
        return pa.table({"row": pa.chunked_array(self._rows, pa.int64()).combine_chunks(), "value": values})

    def again(self) -> list[tuple[int, bytes, int]]:
        """Each row whose value a row before it has, with the value and the first such row, in the order of rows."""
        # Distinct when folded is surely distinct, at a fifth of the exact test's cost; alike decides nothing.
        folded = pa.chunked_array(self._folded, pa.uint64())
        if len(pc.unique(folded)) == len(folded):
            return []
        return sorted(self._find())

    def _find(self) -> Iterator[tuple[int, bytes, int]]:
        table = self.table()
        grouped = table.group_by("value").aggregate([("row", "count"), ("row", "min")])
        again = grouped.filter(pc.greater(grouped["row_count"], 1))
        first = dict(zip(again["value"].to_pylist(), again["row_min"].to_pylist(), strict=True))
        repeated = table.filter(pc.is_in(table["value"], again["value"].combine_chunks()))
        for value, row in zip(repeated["value"].to_pylist(), repeated["row"].to_pylist(), strict=True):
            if row != first[value]:
                yield row, value, first[value]


class UniqueDevices:
    """Finds UUIDs that come again.

    Attributes:
        column: the UUID column's name in the manifest.
    """

    def __init__(self, column: str) -> None:
        self.column = column
        self._uuids = _Values()

    def add(self, rows: pa.ChunkedArray, device_uuids: pa.ChunkedArray) -> None:
        """Take in some devices: their row numbers, and their UUIDs in lower-case text."""
        self._uuids.add(rows.chunks, b"".join(map(_uuid_octets, device_uuids.chunks)))

    def table(self) -> pa.Table:
        """All of them: `row`, int64, and `value`, the UUID's octets."""
        return self._uuids.table()

    def rejections(self) -> list[Rejection]:
        """A finding for each row whose UUID a row before it has, naming both, in the order of rows."""
        return [self._rejection(row, uuid.hex(), first) for row, uuid, first in self._uuids.again()]

    def _rejection(self, row: int, h: str, first: int) -> Rejection:
        uuid = f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
        message = f"row {row}, column {self.column!r}: {uuid} is in row {first} already"
        return Rejection(row, self.column, uuid, "uuid-duplicate", message)


class UniqueKeys:
    """Finds public keys that come again, among those that devices bring.

    Attributes:
        column: the CSR column's name in the manifest.
    """

    def __init__(self, column: str) -> None:
        self.column = column
        self._keys = _Values()

    def add(self, rows: bytes, keys: bytes) -> None:
        """Take in some rows, each with a good CSR.

        Args:
            rows: their numbers, 8 octets each in this machine's order.
            keys: of each the first `KEY_OCTETS` octets of its SubjectPublicKeyInfo's SHA-256.
        """
        self._keys.add([pa.Array.from_buffers(pa.int64(), len(rows) // 8, [None, pa.py_buffer(rows)])], keys)

    def table(self) -> pa.Table:
        """All of them: `row`, int64, and `value`, the same octets of its key's digest."""
        return self._keys.table()

    def rejections(self) -> list[Rejection]:
        """A finding for each row whose key a row before it has, naming both, in the order of rows."""
        return [self._rejection(row, f"{key.hex()}…", first) for row, key, first in self._keys.again()]

    def _rejection(self, row: int, key: str, first: int) -> Rejection:
        message = f"row {row}, column {self.column!r}: its public key (SHA-256 {key}) is that of row {first} already"
        return Rejection(row, self.column, key, "csr-duplicate-key", message)


def _uuid_octets(device_uuids: pa.Array) -> bytes:
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(device_uuids)], pa.int32()), device_uuids), "")
    return bytes.fromhex(joined[0].as_py().replace("-", ""))


def _folded(octets: bytes) -> pa.Array:
    """Each value as its halves' exclusive or."""
    halves = array("Q", octets)
    first, second = (
        pa.Array.from_buffers(pa.uint64(), len(half), [None, pa.py_buffer(half)])
        for half in (halves[::2], halves[1::2])
    )
    return pc.bit_wise_xor(first, second)
