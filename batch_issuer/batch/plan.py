"""Step 1 of a run: the whole manifest is read and checked, and everything fixed, before the first key is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_issuer.batch.hosts import choose_hosts
from batch_issuer.batch.recording import choose_window, new_record
from batch_issuer.batch.rows import read_rows
from batch_issuer.bundles.format import PASSWORD_FORMAT
from batch_issuer.bundles.recipients import checked_recipients
from batch_issuer.bundles.sealed import stored_as, writable_format
from batch_issuer.errors import ManifestError, RefusedError, RowsRejectedError
from batch_issuer.manifest.reading import Manifest
from batch_issuer.manifest.rows import RowRules
from batch_issuer.output.manifest import csv_can_hold
from batch_issuer.output.rows import CERTIFICATE_COLUMN, ISSUED_COLUMNS, KEY_ORIGIN_COLUMN

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from io import BufferedReader
    from pathlib import Path

    from batch_issuer.batch.ledgering import RunLedger
    from batch_issuer.batch.means import Means
    from batch_issuer.batch.request import RunRequest
    from batch_issuer.batch.rows import RowsRead
    from batch_issuer.devices import Rejections
    from batch_issuer.output.record import RunRecord
    from batch_issuer.scratch import Scratch

__all__ = ["Plan", "make_plan"]

_RESERVED = frozenset((*ISSUED_COLUMNS.names, CERTIFICATE_COLUMN, KEY_ORIGIN_COLUMN)) - {"device_uuid"}


@dataclass(frozen=True, slots=True)
class Plan:
    """A run, accepted.

    Attributes:
        record: what `run.json` will say.
        rejections: rows that are not issued, in their order.
        warnings: sentences for the user.
        linted_by: who judged the run's first certificate, with its version; None if nobody did.
    """

    record: RunRecord
    rejections: Rejections
    warnings: list[str]
    linted_by: str | None = None


def make_plan(
    request: RunRequest,
    means: Means,
    file: BufferedReader,
    *,
    now: datetime,
    spill: Path | None,
    scratch: Scratch,
    named_by_attempt: bool = False,
    ledger: RunLedger | None = None,
    notify: Callable[[str], None] = lambda _: None,
) -> Plan:
    """Read and check the whole manifest, fix the run's record.

    Args:
        request: the options.
        means: what the run issues with, checked.
        file: the manifest.
        now: UTC.
        spill: where the accepted rows go, part by part; None for a dry run.
        scratch: how much memory there is for what must be known of all rows, and where the rest goes.
        named_by_attempt: whether bundles keep the name of the attempt that made them.
        ledger: what earlier runs have issued; None for a run without.
        notify: told, in a sentence, what takes long.

    Raises:
        ManifestError: the manifest as a file is not usable.
        RowsRejectedError: rows are rejected and the run is not to go on without them, or none is left.
        RefusedError: an option is not usable, or an unfinished run in the ledger holds one of the devices.
        RunFailedError: workers that check CSRs died again and again.
        OSError: the spill cannot be written.
    """
    _check_format(request, named_by_attempt=named_by_attempt)
    issuer = means.issuer
    with Manifest(file, request.manifest_name, reserved=_RESERVED) as manifest:
        seal_to = checked_recipients(request.seal_to)
        writable_format(stored_as(request.format, sealed=bool(seal_to)), seal_to)  # refuses what cannot be
        has_column = "hardware_id" in manifest.layout.roles
        sota, warnings = choose_hosts(request, issuer.hosts, has_hardware_column=has_column)
        if (request.manifest_format or manifest.kind) == "csv" and manifest.types is not None:
            _check_csv_types(manifest)
        rules = RowRules(hardware_id_required=sota is not None and request.hardware_id is None)
        rows = read_rows(
            manifest,
            rules,
            request,
            factory=issuer.factory,
            spill=spill,
            scratch=scratch,
            ledger=ledger,
            notify=notify,
        )
    _check_rows(request, rows)
    window, clamped = choose_window(request, issuer, now)
    record = new_record(
        request,
        means,
        manifest,
        rows,
        window,
        seal_to=seal_to,
        sota=sota,
        ledger_run=None if ledger is None else ledger.id,
        named_by_attempt=named_by_attempt,
    )
    again = [] if ledger is None else ledger.warnings()
    return Plan(record, rows.rejections, [*means.warnings, *warnings, *_renamings(manifest), *clamped, *again])


def _check_format(request: RunRequest, *, named_by_attempt: bool) -> None:
    if named_by_attempt and request.format == PASSWORD_FORMAT:
        raise RefusedError(
            f"--format {PASSWORD_FORMAT} goes into a folder, and not into an object store",
            hint="take tar or parquet, with --seal-to; or issue into a folder and copy it",
        )


def _check_rows(request: RunRequest, rows: RowsRead) -> None:
    """Whether these rows can be issued as it was asked."""
    if rows.rejected and (not request.skip_rejects or rows.accepted == 0):
        raise _rejected(rows)
    if request.device_hsm:
        _check_all_bring_csrs(rows)
    if request.format == PASSWORD_FORMAT and rows.csr_rows:
        raise RefusedError(
            f"--format p12 stores each device's key beside its certificate: {rows.csr_rows} of {rows.accepted} rows "
            "bring a CSR, and their keys are not here",
            hint="issue these devices by a run of another format",
        )


def _renamings(manifest: Manifest) -> list[str]:
    return [
        f"the manifest's column {name!r} is called {new!r} in the output, which has a {name.casefold()!r} of its own"
        for name, new in manifest.layout.renamed.items()
    ]


def _check_all_bring_csrs(rows: RowsRead) -> None:
    if rows.csr_rows < rows.accepted:
        raise RefusedError(
            f"--device-hsm is for devices that keep their keys: every row must bring a CSR; "
            f"{rows.accepted - rows.csr_rows} of {rows.accepted} rows bring none",
            hint="a key that is made here is in no device's HSM: issue such devices by a run without --device-hsm",
        )


def _check_csv_types(manifest: Manifest) -> None:
    for place, name in manifest.layout.carried:
        kind = (manifest.types or [])[place]
        if not csv_can_hold(kind):
            raise ManifestError(
                f"column {name!r} of the manifest has type {kind}, which CSV cannot hold",
                hint="take --manifest-format parquet",
            )


def _rejected(rows: RowsRead) -> RowsRejectedError:
    if rows.accepted == 0:
        return RowsRejectedError(f"all {rows.read} rows of the manifest are rejected", rows.rejections)
    return RowsRejectedError(
        f"{rows.rejected} of the manifest's {rows.read} rows are rejected; nothing was issued",
        rows.rejections,
        hint="mend them, or issue the others with --skip-rejects",
    )
