"""Step 1 of a run: the whole manifest is read and checked, and everything fixed, before the first key is made."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from batch_issuer import __version__, profiles
from batch_issuer.authority.batch_signer import load_batch_signer
from batch_issuer.batch.hosts import choose_hosts
from batch_issuer.batch.rows import read_rows
from batch_issuer.bundles.format import PASSWORD_FORMAT
from batch_issuer.bundles.recipients import checked_recipients
from batch_issuer.bundles.sealed import writable_format
from batch_issuer.errors import ManifestError, RefusedError, RowsRejectedError
from batch_issuer.files import PRIVATE_MODE, write_all
from batch_issuer.manifest.reading import Manifest
from batch_issuer.manifest.rows import RowRules
from batch_issuer.output.manifest import csv_can_hold
from batch_issuer.output.record import RunRecord, format_time
from batch_issuer.output.rows import CERTIFICATE_COLUMN, ISSUED_COLUMNS, KEY_ORIGIN_COLUMN

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from io import BufferedReader
    from pathlib import Path

    from batch_issuer.authority.batch_signer import BatchSigner
    from batch_issuer.authority.issuer import Issuer
    from batch_issuer.authority.signers import Passphrase
    from batch_issuer.batch.ledgering import RunLedger
    from batch_issuer.batch.request import RunRequest
    from batch_issuer.batch.rows import RowsRead
    from batch_issuer.devices import Rejection

__all__ = ["Plan", "make_plan", "open_manifest", "run_signer"]

_RESERVED = frozenset((*ISSUED_COLUMNS.names, CERTIFICATE_COLUMN, KEY_ORIGIN_COLUMN)) - {"device_uuid"}
_AS_ASKED = (
    "skip_rejects",
    "format",
    "p12_passwords",
    "part_size",
    "days",
    "backdate",
    "production",
    "reissue",
    "with_certificates",
    "spreadsheet_safe",
)
"""Options that the record has as they were asked."""

_COPY_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Plan:
    """A run, accepted.

    Attributes:
        record: what `run.json` will say.
        rejections: rows that are not issued, in their order.
        warnings: sentences for the user.
    """

    record: RunRecord
    rejections: list[Rejection]
    warnings: list[str]


def open_manifest(request: RunRequest, spool: Path | None) -> BufferedReader:
    """The manifest's file, seekable; standard input is copied to `spool` first, or to memory without one.

    Raises:
        ManifestError: it cannot be opened.
        OSError: the copy cannot be written.
    """
    if request.manifest is not None:
        try:
            file = request.manifest.open("rb")
        except OSError as error:
            raise ManifestError(f"the manifest {request.manifest} cannot be opened: {error.strerror}") from None
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise ManifestError(
                f"the manifest {request.manifest} is not a regular file",
                hint="a pipe's content goes in by standard input: --manifest -",
            )
        return file
    if spool is None:
        fd = os.memfd_create("manifest")
    else:
        spool.unlink(missing_ok=True)  # of a run that was killed
        fd = os.open(spool, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_MODE)
    copy = os.fdopen(fd, "rb")
    try:
        while chunk := sys.stdin.buffer.read(_COPY_CHUNK):
            write_all(fd, chunk)
    except BaseException:
        copy.close()
        raise
    copy.seek(0)
    return copy


def run_signer(request: RunRequest, now: datetime, passphrase: Passphrase | None) -> BatchSigner | None:
    """Who signs the run's output, checked; None for nobody.

    Raises:
        AuthorityError: the signer is not fit.
    """
    if request.sign_with is None:
        return None
    return load_batch_signer(request.pki, request.sign_with, now=now, passphrase=passphrase)


def make_plan(
    request: RunRequest,
    issuer: Issuer,
    file: BufferedReader,
    *,
    now: datetime,
    spill: Path | None,
    signer: BatchSigner | None = None,
    ledger: RunLedger | None = None,
    notify: Callable[[str], None] = lambda _: None,
) -> Plan:
    """Read and check the whole manifest, fix the run's record.

    Args:
        request: the options.
        issuer: the CA, checked.
        file: the manifest.
        now: UTC.
        spill: where the accepted rows go, part by part; None for a dry run.
        signer: who signs the output, checked; None for nobody.
        ledger: what earlier runs have issued; None for a run without.
        notify: told, in a sentence, what takes long.

    Raises:
        ManifestError: the manifest as a file is not usable.
        RowsRejectedError: rows are rejected and the run is not to go on without them, or none is left.
        RefusedError: an option is not usable, or an unfinished run in the ledger holds one of the devices.
        RunFailedError: workers that check CSRs died again and again.
        OSError: the spill cannot be written.
    """
    with Manifest(file, request.manifest_name, reserved=_RESERVED) as manifest:
        seal_to = checked_recipients(request.seal_to)
        writable_format(request.format, seal_to)  # refuses what cannot be
        has_column = "hardware_id" in manifest.layout.roles
        sota, warnings = choose_hosts(request, issuer.hosts, has_hardware_column=has_column)
        kind = request.manifest_format or manifest.kind
        if kind == "csv" and manifest.types is not None:
            _check_csv_types(manifest)
        rules = RowRules(hardware_id_required=sota is not None and request.hardware_id is None)
        rows = read_rows(manifest, rules, request, factory=issuer.factory, spill=spill, ledger=ledger, notify=notify)
    if rows.rejections and (not request.skip_rejects or rows.accepted == 0):
        raise _rejected(rows)
    if request.device_hsm:
        _check_all_bring_csrs(rows)
    if request.format == PASSWORD_FORMAT and rows.csr_rows:
        raise RefusedError(
            f"--format p12 stores each device's key beside its certificate: {rows.csr_rows} of {rows.accepted} rows "
            "bring a CSR, and their keys are not here",
            hint="issue these devices by a run of another format",
        )
    window, clamped = _window(request, issuer, now)
    record = RunRecord(
        version=__version__,
        manifest=request.manifest_name,
        manifest_sha256=manifest.sha256,
        manifest_kind=manifest.kind,
        rows=rows.read,
        accepted=rows.accepted,
        csr_rows=rows.csr_rows,
        factory=issuer.factory,
        ca_name=issuer.name,
        ca_certificate=_pem(issuer.certificate),
        root_certificate=_pem(issuer.root),
        ledger_run=None if ledger is None else ledger.id,
        signer=None if signer is None else signer.name,
        signer_certificate=None if signer is None else signer.certificate_pem(),
        not_before=format_time(window.not_before),
        not_after=format_time(window.not_after),
        gateway=sota.gateway if sota else None,
        ostree=sota.ostree if sota else None,
        hardware_id=sota.hardware_id if sota else None,
        tag=sota.tag if sota else None,
        device_hsm_module=sota.device_hsm_module if sota else None,
        seal_to=seal_to,
        manifest_format=kind,
        **{name: getattr(request, name) for name in _AS_ASKED},
    )
    means = [*issuer.warnings, *(() if signer is None else signer.warnings)]
    again = [] if ledger is None else ledger.warnings()
    return Plan(record, rows.rejections, [*means, *warnings, *_renamings(manifest), *clamped, *again])


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


def _window(request: RunRequest, issuer: Issuer, now: datetime) -> tuple[profiles.ValidityWindow, list[str]]:
    """The certificates' validity, within the CA's; and a sentence when it was asked for longer."""
    now = now.replace(microsecond=0)
    asked = now + timedelta(days=request.days)
    not_before = max(now - timedelta(seconds=request.backdate), issuer.window.not_before)
    not_after = min(asked, issuer.window.not_after)
    if not_after < asked:
        end = f"{not_after:%Y-%m-%d}"
        return profiles.ValidityWindow(not_before, not_after), [
            f"--days {request.days} would end on {asked:%Y-%m-%d}, after {issuer.name} itself: "
            f"certificates end with it, on {end}"
        ]
    return profiles.ValidityWindow(not_before, not_after), []


def _pem(certificate: bytes) -> str:
    return x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM).decode()
