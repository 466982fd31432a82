"""Looking for many values in all that was ever issued: whole columns against whole columns, in bounded memory."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from batch_issuer.ledger.entries import Found

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

__all__ = ["HELD_KEY", "KEY", "UUID", "find", "places"]

_COMPARED = 16
"""Octets of a value that are compared: all of a UUID, and 128 bits of a digest."""


class What(NamedTuple):
    """What can be looked for.

    Attributes:
        query: gives run, whether it is issued, and the octets of each part, of runs up to a number.
        width: octets of a value in there.
    """

    query: str
    width: int


UUID = What("SELECT run, issued IS NOT NULL, uuids FROM parts WHERE run <= ? ORDER BY run, part", 16)
KEY = What("SELECT run, TRUE, public_keys FROM parts WHERE run <= ? AND issued IS NOT NULL ORDER BY run, part", 32)

HELD_KEY = What(
    "SELECT run, FALSE, keys FROM held_keys WHERE run <= ? "
    "AND EXISTS (SELECT 1 FROM parts WHERE parts.run = held_keys.run AND issued IS NULL) ORDER BY run",
    16,
)

_LAST = (1 << 63) - 1
"""No run has a higher number."""

_AT_ONCE = 32 << 20
"""Octets of the ledger that are compared together."""


def find(connection: sqlite3.Connection, what: What, values: bytes, *, before: int | None = None) -> Found:
    """What the ledger knows of some values.

    Args:
        connection: the ledger.
        what: `UUID`, `KEY` or `HELD_KEY`.
        values: one after the other, of 16 octets each: a UUID, or the first half of a public key's SHA-256.
        before: the number of a run; only earlier runs are looked at. None for all.
    """
    last = _LAST if before is None else before - 1
    wanted = _column(values)
    found, held = [], None
    for piece in _pieces(connection, what, last):
        hits = (
            pc.indices_nonzero(pc.is_in(piece.values, value_set=wanted)) if len(wanted) else pa.array([], pa.uint64())
        )
        if not len(hits):
            continue
        places = [bisect_right(piece.starts, place) - 1 for place in hits.to_pylist()]
        held = next((piece.runs[place] for place in places if not piece.issued[place]), held)
        found.append(
            pa.table({"value": piece.values.take(hits), "run": pa.array([piece.runs[place] for place in places])})
        )
    return _latest(found, held)


def places(octets: bytes, wanted: bytes) -> list[int]:
    """Where among values of 16 octets those are that are wanted."""
    found: list[int] = pc.indices_nonzero(pc.is_in(_column(octets), value_set=_column(wanted))).to_pylist()
    return found


class _Piece:
    """Parts of the ledger, their values in one column."""

    def __init__(self, parts: Sequence[tuple[int, bool, bytes]], width: int) -> None:
        self.runs = [run for run, _, _ in parts]
        self.issued = [issued for _, issued, _ in parts]
        self.starts = [0]
        for _, _, octets in parts:
            self.starts.append(self.starts[-1] + len(octets) // width)
        self.values = _column(b"".join(octets for _, _, octets in parts), width)


def _pieces(connection: sqlite3.Connection, what: What, last: int) -> Iterator[_Piece]:
    parts: list[tuple[int, bool, bytes]] = []
    size = 0
    rows = connection.execute(what.query, (last,))
    for run, issued, octets in rows:
        parts.append((run, bool(issued), octets))
        size += len(octets)
        if size >= _AT_ONCE:
            yield _Piece(parts, what.width)
            parts, size = [], 0
    if parts:
        yield _Piece(parts, what.width)


def _column(octets: bytes, width: int = _COMPARED) -> pa.Array:
    """Values of `width` octets each, by what of them is compared."""
    column = pa.Array.from_buffers(pa.binary(width), len(octets) // width, [None, pa.py_buffer(octets)])
    if width == _COMPARED:
        return column
    return pc.binary_slice(column.cast(pa.binary()), 0, _COMPARED).cast(pa.binary(_COMPARED))


def _latest(found: list[pa.Table], held: int | None) -> Found:
    if not found:
        return Found(pa.array([], pa.binary(_COMPARED)), pa.array([], pa.int64()), None)
    latest = pa.concat_tables(found).group_by("value").aggregate([("run", "max")])
    return Found(latest["value"].combine_chunks(), latest["run_max"].combine_chunks(), held)
