"""What must be different for every device of a run: its UUID, its serial number, its public key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from batch_issuer.verification.finding import Fault, Findings
from batch_issuer.verification.part import IDENTITY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_issuer.verification.part import PartResult

__all__ = ["Identities"]

_ROWS_NAMED = 10


class Identities:
    """Collects the identities of all devices, some 56 octets each, and finds those that occur more than once."""

    def __init__(self) -> None:
        self._rows: list[bytes] = []
        self._values: dict[str, list[bytes]] = {"uuid-twice": [], "serial-twice": [], "key-twice": []}

    def add(self, result: PartResult) -> None:
        """Take over what a worker read."""
        self._rows.append(result.rows)
        for values, octets in zip(self._values.values(), (result.uuids, result.serials, result.keys), strict=True):
            values.append(octets)

    def report(self, findings: Findings) -> None:
        """One finding for each value that is there more than once."""
        names = {"uuid-twice": "device UUID", "serial-twice": "serial number", "key-twice": "public key"}
        for code, octets in self._values.items():
            column = _column(octets, pa.binary(IDENTITY))
            if pc.count_distinct(column).as_py() == len(column):
                continue
            rows = _column(self._rows, pa.int64())
            for shared in _shared(column, rows):
                named = ", ".join(map(str, sorted(shared)[:_ROWS_NAMED]))
                fault = Fault(code, f"{len(shared)} devices have the same {names[code]}, in rows {named}")
                findings.add([fault], "manifest", row=min(shared))


def _column(octets: Sequence[bytes], kind: pa.DataType) -> pa.ChunkedArray:
    width = kind.bit_width // 8
    chunks = [pa.Array.from_buffers(kind, len(part) // width, [None, pa.py_buffer(part)]) for part in octets]
    return pa.chunked_array(chunks, kind)


def _shared(values: pa.ChunkedArray, rows: pa.ChunkedArray) -> list[list[int]]:
    """The rows of each value that is there more than once."""
    groups = pa.table({"value": values, "row": rows}).group_by("value").aggregate([("row", "list"), ("row", "count")])
    often = groups.filter(pc.greater(groups.column("row_count"), 1))
    lists: list[list[int]] = often.column("row_list").to_pylist()
    return lists
