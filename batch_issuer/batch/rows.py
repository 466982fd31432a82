"""A manifest read to its end: the accepted rows go to the plan, everything else becomes a finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from batch_issuer.batch.csrs import CsrRules, check_pieces, cut_pieces
from batch_issuer.batch.spill import PlanWriter, drop_rows
from batch_issuer.manifest.columns import CSR_COLUMN
from batch_issuer.manifest.duplicates import UniqueDevices, UniqueKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from batch_issuer.batch.csrs import CsrPiece
    from batch_issuer.batch.ledgering import RunLedger
    from batch_issuer.batch.request import RunRequest
    from batch_issuer.devices import Rejection
    from batch_issuer.manifest.reading import Manifest
    from batch_issuer.manifest.rows import CheckedRows, RowRules

__all__ = ["RowsRead", "read_rows"]


@dataclass(frozen=True, slots=True)
class RowsRead:
    """What a manifest holds.

    Attributes:
        read: data rows.
        rejections: what is wrong with some of them, in their order.
        csr_rows: rows that bring a CSR, among those that nothing is wrong with.
    """

    read: int
    rejections: list[Rejection]
    csr_rows: int

    @property
    def rejected(self) -> int:
        """Rows that something is wrong with."""
        return len({rejection.row for rejection in self.rejections})

    @property
    def accepted(self) -> int:
        """Rows that nothing is wrong with."""
        return self.read - self.rejected


def read_rows(
    manifest: Manifest,
    rules: RowRules,
    request: RunRequest,
    *,
    factory: str,
    spill: Path | None,
    ledger: RunLedger | None,
    notify: Callable[[str], None],
) -> RowsRead:
    """Read and check all rows.

    Args:
        manifest: open.
        rules: for single rows.
        request: the options.
        factory: whose devices they must be.
        spill: where the accepted rows go, part by part; None for a dry run.
        ledger: what earlier runs have issued; None for a run without.
        notify: told, in a sentence, what takes long, or what happens to workers.

    Raises:
        ManifestError: the manifest as a file is not usable.
        LedgerError: a run that is not finished holds one of the devices.
        RunFailedError: workers that check CSRs died again and again.
        OSError: the spill cannot be written.
    """
    layout = manifest.layout
    csr_name = layout.names[layout.roles[CSR_COLUMN]] if CSR_COLUMN in layout.roles else CSR_COLUMN
    csr_rules = CsrRules(factory, request.production, csr_name)
    devices, keys = UniqueDevices(layout.names[layout.uuid]), UniqueKeys(csr_name)
    reading = _Reading(devices)
    late: list[Rejection] = []
    with PlanWriter(spill, request.part_size) as plan:
        pieces = reading.pieces(manifest.rows(rules), plan)
        for checked in check_pieces(pieces, csr_rules, workers=request.workers, notify=notify):
            late += checked.rejections
            keys.add(checked.rows, checked.keys)
    late += devices.rejections() + keys.rejections()
    if ledger is not None:
        late += ledger.refuse(devices, keys, late)
    unwanted = pa.array(sorted({rejection.row for rejection in late}), pa.int64())
    if len(unwanted) and spill is not None:
        drop_rows(spill, request.part_size, unwanted)
    rejections = sorted(reading.rejections + late, key=lambda rejection: rejection.row)
    return RowsRead(reading.read, rejections, pc.sum(pc.invert(pc.is_in(keys.table()["row"], unwanted))).as_py() or 0)


class _Reading:
    """Reads a manifest as far as somebody asks for the pieces of it."""

    def __init__(self, devices: UniqueDevices) -> None:
        self.read = 0
        self.rejections: list[Rejection] = []
        self._devices = devices

    def pieces(self, rows: Iterable[CheckedRows], plan: PlanWriter) -> Iterator[CsrPiece]:
        """Take in all rows, and give those whose CSRs are to be checked, piece by piece."""
        for checked in rows:
            self.read += checked.read
            self.rejections += checked.rejections
            self._devices.add(checked.accepted["row"], checked.accepted["device_uuid"])
            plan.add(checked.accepted)
            yield from cut_pieces(checked.accepted)
