"""Devices that are in the manifest more than once."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from batch_issuer.devices import Rejection

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["UniqueDevices"]

_OCTETS = 16


class UniqueDevices:
    """Finds UUIDs that come again; holds 32 octets per device."""

    def __init__(self, column: str) -> None:
        self._column = column
        self._keys: list[bytes] = []
        self._folded: list[pa.Array] = []
        self._rows: list[pa.Array] = []

    @property
    def column(self) -> str:
        """The UUID column's name in the manifest."""
        return self._column

    @property
    def uuids(self) -> list[bytes]:
        """All UUIDs as they came, 16 octets each, piece by piece."""
        return self._keys

    @property
    def rows(self) -> list[pa.Array]:
        """The numbers of their rows, int64."""
        return self._rows

    def add(self, rows: pa.ChunkedArray, device_uuids: pa.ChunkedArray) -> None:
        """Take in some devices: their row numbers, and their UUIDs in lower-case text."""
        for chunk in device_uuids.chunks:
            joined = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(chunk)], pa.int32()), chunk), "")
            octets = bytes.fromhex(joined[0].as_py().replace("-", ""))
            self._keys.append(octets)
            self._folded.append(_folded(octets))
        self._rows += rows.chunks

    def rejections(self) -> list[Rejection]:
        """A finding for each row whose UUID a row before it has, naming both, in the order of rows."""
        # Distinct when folded is surely distinct, at a fifth of the exact test's cost; alike decides nothing.
        folded = pa.chunked_array(self._folded, pa.uint64())
        if len(pc.unique(folded)) == len(folded):
            return []
        octets = b"".join(self._keys)
        keys = pa.Array.from_buffers(pa.binary(_OCTETS), len(octets) // _OCTETS, [None, pa.py_buffer(octets)])
        return sorted(self._find(keys), key=lambda rejection: rejection.row)

    def _find(self, keys: pa.Array) -> Iterator[Rejection]:
        rows = pa.chunked_array(self._rows, pa.int64()).combine_chunks()
        table = pa.table({"key": keys, "row": rows})
        grouped = table.group_by("key").aggregate([("row", "count"), ("row", "min")])
        again = grouped.filter(pc.greater(grouped["row_count"], 1))
        first = dict(zip(again["key"].to_pylist(), again["row_min"].to_pylist(), strict=True))
        repeated = table.filter(pc.is_in(table["key"], again["key"].combine_chunks()))
        for key, row in zip(repeated["key"].to_pylist(), repeated["row"].to_pylist(), strict=True):
            if row != first[key]:
                h = key.hex()
                uuid = f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
                message = f"row {row}, column {self._column!r}: {uuid} is in row {first[key]} already"
                yield Rejection(row, self._column, uuid, "uuid-duplicate", message)


def _folded(octets: bytes) -> pa.Array:
    """Each 16-octet key as its halves' exclusive or."""
    halves = array("Q", octets)
    first, second = (
        pa.Array.from_buffers(pa.uint64(), len(half), [None, pa.py_buffer(half)])
        for half in (halves[::2], halves[1::2])
    )
    return pc.bit_wise_xor(first, second)
