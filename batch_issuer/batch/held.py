"""What a run holds in the ledger before it issues it: its devices, part by part, and the keys that they bring."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from batch_issuer.columns import hex_octets
from batch_issuer.devices import UUID_LENGTH
from batch_issuer.ledger.entries import ReservedPart
from batch_issuer.manifest.partitions import KEY_OCTETS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_issuer.batch.findings import RowSet
    from batch_issuer.batch.spill import PlanReader
    from batch_issuer.manifest.duplicates import UniqueKeys
    from batch_issuer.output.record import RunRecord

__all__ = ["BroughtKeys", "PlannedParts", "octets_of"]


def octets_of(table: pa.Table) -> bytes:
    """The values of a table of fixed-size values, one after the other."""
    [chunk] = table["value"].chunks
    octets: bytes = chunk.buffers()[1].slice(KEY_OCTETS * chunk.offset, KEY_OCTETS * len(chunk)).to_pybytes()
    return octets


class BroughtKeys:
    """The keys of a manifest's rows, as the ledger takes them, without those of refused rows."""

    def __init__(self, keys: UniqueKeys, refused: RowSet) -> None:
        self._keys = keys
        self._refused = refused

    def __iter__(self) -> Iterator[bytes]:
        for table in self._keys.distinct():
            if not len(self._refused):
                yield octets_of(table)
                continue
            wanted = table.filter(pa.array([row not in self._refused for row in table["row"].to_pylist()]))
            if len(wanted):
                yield octets_of(wanted.combine_chunks())


class PlannedParts:
    """The parts of a plan as the ledger holds them, read anew each time that they are gone through."""

    def __init__(self, plan: PlanReader, record: RunRecord) -> None:
        self._plan = plan
        self._record = record

    def __iter__(self) -> Iterator[ReservedPart]:
        for index, rows in enumerate(self._plan.parts()):
            yield ReservedPart(index, hex_octets(rows.column("device_uuid"), UUID_LENGTH), _flags(rows, self._record))


def _flags(rows: pa.RecordBatch, record: RunRecord) -> bytes:
    flags = pc.fill_null(rows.column("production"), record.production)
    octets: bytes = pc.cast(flags, pa.uint8()).buffers()[1].to_pybytes()
    return octets[: len(rows)]
