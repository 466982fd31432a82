"""`batch-issuer ledger`: what was issued across runs."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING

import click

from batch_issuer.cli.command import Command, Group, tell_result
from batch_issuer.cli.options import FILE, json_option
from batch_issuer.figures import counted

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.devices import Rejection
    from batch_issuer.ledger.entries import Entry
    from batch_issuer.ledger.ledger import Ledger

__all__ = ["ledger"]

_ledger_option = click.option("--ledger", "path", type=FILE, required=True, help="The ledger's file.")


@click.group(cls=Group)
def ledger() -> None:
    """Ask the ledger that runs with --ledger keep, and mend it.

    It is an SQLite file; its view `issued` has a row per certificate.
    """


@ledger.command(cls=Command)
@click.argument("device_uuid", metavar="UUID")
@_ledger_option
@json_option
def show(*, device_uuid: str, path: Path, as_json: bool) -> None:
    """Show every certificate that was issued for a device, and by which run.

    \b
      batch-issuer ledger show 5a1c6b9e-8f3d-4f0a-9a55-0c1d2e3f4a5b --ledger factory.ledger
    """  # noqa: D301 - click's mark for "do not wrap" is the character, not its escape
    import json
    import re
    from uuid import UUID

    from batch_issuer.devices import UUID_TEXT
    from batch_issuer.errors import RefusedError

    wanted = device_uuid.lower()
    if not re.fullmatch(UUID_TEXT, wanted):
        raise RefusedError(f"expected a UUID of 8-4-4-4-12 hexadecimal digits, got {device_uuid[:60]!r}")
    entries = list(_opened(path).entries(UUID(wanted).bytes))
    if not entries:
        raise RefusedError(f"the ledger {path} does not know the device {wanted}")
    if as_json:
        tell_result(json.dumps([asdict(entry) for entry in entries], indent=2))
    else:
        tell_result("\n\n".join(map(_told, entries)))


@ledger.command(cls=Command)
@_ledger_option
@click.option("--devices", type=FILE, help="Of these devices alone: a manifest, CSV or Parquet.  [default: all]")
def certificates(*, path: Path, devices: Path | None) -> None:
    """List certificates that were issued, as CSV: for a list of revoked devices, a CRL, an audit.

    \b
      batch-issuer ledger certificates --ledger factory.ledger --devices stolen.csv > revoked.csv

    What unfinished runs hold and have not issued is not among them. With --devices, a device that no run has issued is
    named, and the exit code is 3.
    """  # noqa: D301 - click's mark for "do not wrap" is the character, not its escape
    import csv
    import sys
    from uuid import UUID

    from batch_issuer.errors import RowsRejectedError
    from batch_issuer.ledger.entries import Entry

    opened = _opened(path)
    wanted = None if devices is None else _devices(devices)
    columns = [field.name for field in fields(Entry)]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    found = set()
    for entry in opened.entries(None if wanted is None else b"".join(UUID(uuid).bytes for uuid in wanted)):
        if entry.issued is not None:
            found.add(entry.device_uuid)
            values = asdict(entry) | {"production": "true" if entry.production else "false"}
            writer.writerow(values[name] for name in columns)
    unknown = [_unknown(row, uuid) for uuid, row in (wanted or {}).items() if uuid not in found]
    if unknown:
        raise RowsRejectedError(f"{counted(len(unknown), 'device')} were issued by no run of {path}", unknown)


@ledger.command(cls=Command)
@click.argument("run", metavar="RUN")
@_ledger_option
def release(*, run: str, path: Path) -> None:
    """Give up the devices that an unfinished run holds, whose output folder is gone for good.

    \b
      batch-issuer ledger release 3f0c9a7e5b1d4c2f8e6a0b9d7c5e3f1a --ledger factory.ledger

    RUN is the run's id, as the refusal names it.
    """  # noqa: D301 - click's mark for "do not wrap" is the character, not its escape
    from pathlib import Path

    from batch_issuer.errors import LedgerError
    from batch_issuer.output.folder import OutputFolder
    from batch_issuer.output.record import read_record

    opened = _opened(path)
    number = opened.number(run)
    if number is None:
        raise LedgerError(f"the ledger {path} knows no run {run!r}")
    folder = OutputFolder(Path(opened.run(number).out))
    if folder.record.exists() and read_record(folder.record).ledger_run == run and not folder.summary.exists():
        raise LedgerError(
            f"the run is there, in {folder.path}, and may have issued what the ledger does not know of yet",
            hint="resume it",
        )
    click.echo(f"{counted(opened.release(run), 'device')} given up", err=True)


def _opened(path: Path) -> Ledger:
    from batch_issuer.errors import LedgerError
    from batch_issuer.ledger.ledger import open_ledger

    opened = open_ledger(path)
    if opened is None:
        raise LedgerError(f"there is no ledger {path}", hint="`issue --ledger` makes one")
    click.get_current_context().call_on_close(opened.close)
    return opened


def _devices(path: Path) -> dict[str, int]:
    """The devices of a manifest, each with its first row."""
    from batch_issuer.errors import ManifestError, RowsRejectedError
    from batch_issuer.manifest.reading import Manifest
    from batch_issuer.manifest.rows import RowRules

    try:
        file = path.open("rb")
    except OSError as error:
        raise ManifestError(f"the manifest {path} cannot be opened: {error.strerror}") from None
    devices: dict[str, int] = {}
    rejections = []
    with Manifest(file, str(path), reserved=()) as manifest:
        for checked in manifest.rows(RowRules()):
            rejections += checked.rejections
            rows, uuids = (checked.accepted[name].to_pylist() for name in ("row", "device_uuid"))
            for row, uuid in zip(rows, uuids, strict=True):
                devices.setdefault(uuid, row)
    if rejections:
        raise RowsRejectedError(f"{counted(len(rejections), 'row')} of {path} name no device", rejections)
    return devices


def _unknown(row: int, device_uuid: str) -> Rejection:
    from batch_issuer.devices import Rejection

    message = f"row {row}, column 'device_uuid': {device_uuid} was issued by no run"
    return Rejection(row, "device_uuid", device_uuid, "ledger-unknown", message)


def _told(entry: Entry) -> str:
    lines = [
        f"Device:       {entry.device_uuid}",
        f"Issued:       {entry.issued or 'not yet: an unfinished run holds it'}",
        f"Serial:       {entry.serial_number or 'none yet'}",
        f"Public key:   {entry.public_key_sha256 or 'none yet'}",
        f"Production:   {'yes' if entry.production else 'no'}",
        f"Not before:   {entry.not_before}",
        f"Not after:    {entry.not_after}",
        f"CA:           {entry.ca_name} of {entry.factory}, serial {entry.ca_serial}",
        f"CA's key id:  {entry.ca_key_identifier or 'none'}",
        f"Run:          {entry.run} in {entry.out}",
    ]
    return "\n".join(lines)
