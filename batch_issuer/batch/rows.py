"""A manifest read to its end: the accepted rows go to the plan, everything else becomes a finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_issuer.batch.csrs import CsrRules, check_pieces, cut_pieces
from batch_issuer.batch.findings import Findings, RowSet
from batch_issuer.batch.spill import PlanWriter, drop_rows
from batch_issuer.manifest.columns import CSR_COLUMN
from batch_issuer.manifest.duplicates import UniqueDevices, UniqueKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from batch_issuer.batch.csrs import CsrPiece
    from batch_issuer.batch.ledgering import RunLedger
    from batch_issuer.batch.request import RunRequest
    from batch_issuer.devices import Rejection, Rejections
    from batch_issuer.manifest.reading import Manifest
    from batch_issuer.manifest.rows import CheckedRows, RowRules
    from batch_issuer.scratch import Scratch

__all__ = ["RowsRead", "read_rows"]


_ALONE, _CSR, _DEVICE, _KEY, _LEDGER = range(5)
"""Where findings come from, in the order in which those of one row are told."""


@dataclass(frozen=True, slots=True)
class RowsRead:
    """What a manifest holds.

    Attributes:
        read: data rows.
        accepted: of these, rows that nothing is wrong with.
        rejections: what is wrong with the others, in their order.
        csr_rows: of the accepted rows, those that bring a CSR.
    """

    read: int
    accepted: int
    rejections: Rejections
    csr_rows: int

    @property
    def rejected(self) -> int:
        """Rows that something is wrong with."""
        return self.read - self.accepted


def read_rows(
    manifest: Manifest,
    rules: RowRules,
    request: RunRequest,
    *,
    factory: str,
    spill: Path | None,
    scratch: Scratch,
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
        scratch: how much memory there is for what must be known of all rows, and where the rest goes.
        ledger: what earlier runs have issued; None for a run without.
        notify: told, in a sentence, what takes long, or what happens to workers.

    Raises:
        ManifestError: the manifest as a file is not usable.
        LedgerError: a run that is not finished holds one of the devices.
        RunFailedError: workers that check CSRs died again and again.
        OSError: the spill, or what memory does not hold, cannot be written.
    """
    layout = manifest.layout
    csr_name = layout.names[layout.roles[CSR_COLUMN]] if CSR_COLUMN in layout.roles else CSR_COLUMN
    csr_rules = CsrRules(factory, request.production, csr_name)
    devices, keys = UniqueDevices(layout.names[layout.uuid], scratch), UniqueKeys(csr_name, scratch)
    reading = _Reading(devices, Findings(scratch))
    late = _Late(reading.findings)
    with PlanWriter(spill, request.part_size) as plan:
        pieces = reading.pieces(manifest.rows(rules), plan)
        for checked in check_pieces(pieces, csr_rules, workers=request.workers, notify=notify):
            late.add(checked.rejections, _CSR)
            keys.add_digests(checked.rows, checked.keys)
    if devices.spilled:
        notify("looking for duplicates on disk: the rows are more than --plan-memory holds")
    late.add(devices.rejections(), _DEVICE)
    late.add(keys.rejections(), _KEY)
    if ledger is not None:
        late.add(ledger.refuse(devices, keys, late.rows), _LEDGER)
    if len(late.rows) and spill is not None:
        drop_rows(spill, request.part_size, reading.findings.rows())
    return RowsRead(reading.read, plan.rows - len(late.rows), reading.findings, _without(keys, late.rows))


class _Reading:
    """Reads a manifest as far as somebody asks for the pieces of it."""

    def __init__(self, devices: UniqueDevices, findings: Findings) -> None:
        self.read = 0
        self.findings = findings
        self._devices = devices

    def pieces(self, rows: Iterable[CheckedRows], plan: PlanWriter) -> Iterator[CsrPiece]:
        """Take in all rows, and give those whose CSRs are to be checked, piece by piece."""
        for checked in rows:
            self.read += checked.read
            self.findings.add(checked.rejections, _ALONE)
            self._devices.add_text(checked.accepted["row"], checked.accepted["device_uuid"])
            plan.add(checked.accepted)
            yield from cut_pieces(checked.accepted)


class _Late:
    """Findings about rows that are in the plan already, and these rows."""

    def __init__(self, findings: Findings) -> None:
        self.rows = RowSet()
        self._findings = findings

    def add(self, rejections: Iterable[Rejection], source: int) -> None:
        """Take in some, each before the next one is asked for."""
        self._findings.add(map(self._noted, rejections), source)

    def _noted(self, rejection: Rejection) -> Rejection:
        self.rows.add(rejection.row)
        return rejection


def _without(keys: UniqueKeys, unwanted: RowSet) -> int:
    """How many rows with a good CSR are wanted. One that repeats another's key is not."""
    if not len(unwanted):
        return len(keys)
    return sum(row not in unwanted for table in keys.distinct() for row in table["row"].to_pylist())
