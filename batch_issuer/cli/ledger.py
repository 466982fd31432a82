"""`batch-issuer ledger`: what was issued across runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from batch_issuer.cli.command import Command, Group, tell_result
from batch_issuer.cli.options import FILE, json_option
from batch_issuer.figures import counted

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.ledger.entries import Entry
    from batch_issuer.ledger.ledger import Ledger

__all__ = ["ledger"]

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
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

    from batch_issuer.errors import RefusedError

    wanted = device_uuid.lower()
    if not re.fullmatch(_UUID, wanted):
        raise RefusedError(f"expected a UUID of 8-4-4-4-12 hexadecimal digits, got {device_uuid[:60]!r}")
    entries = _opened(path).entries(wanted)
    if not entries:
        raise RefusedError(f"the ledger {path} does not know the device {wanted}")
    if as_json:
        tell_result(json.dumps([asdict(entry) for entry in entries], indent=2))
    else:
        tell_result("\n\n".join(map(_told, entries)))


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

    from batch_issuer.batch.home import home_of
    from batch_issuer.errors import LedgerError
    from batch_issuer.stores.address import is_address, parse_address

    opened = _opened(path)
    number = opened.number(run)
    if number is None:
        raise LedgerError(f"the ledger {path} knows no run {run!r}")
    out = opened.run(number).out
    home = home_of(parse_address(out) if is_address(out) else Path(out))
    began = home.get(home.folder.record.name) is not None
    if began and home.read_record().ledger_run == run and not home.is_finished():
        raise LedgerError(
            f"the run is there, in {home.shown()}, and may have issued what the ledger does not know of yet",
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
