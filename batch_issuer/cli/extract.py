"""`batch-issuer extract`: bundles as folders for devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from batch_issuer.cli.command import Command
from batch_issuer.cli.options import FOLDER, identity_option, json_option, verbosity_options
from batch_issuer.cli.p12 import p12_options
from batch_issuer.figures import counted

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.bundles.format import PasswordOf

__all__ = ["extract"]


@click.command(cls=Command)
@click.argument("out", type=FOLDER)
@click.argument("device_uuids", metavar="UUID...", nargs=-1)
@click.option("--to", required=True, type=FOLDER, help="Where the folders go; made if it is not there.")
@click.option("--all", "everything", is_flag=True, help="Every device of the run.")
@identity_option
@p12_options
@json_option
@verbosity_options
def extract(
    out: Path,
    device_uuids: tuple[str, ...],
    to: Path,
    *,
    everything: bool,
    identity_files: tuple[Path, ...],
    passwords: PasswordOf | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,  # noqa: ARG001 - read where errors are reported
) -> None:
    """Copy bundles out of a run, whatever its format, as folders ready for a device's /var/sota.

    \b
    Examples:
      batch-issuer extract issued 5a1c6b9e-8f3d-4f0a-9a55-0c1d2e3f4a5b --to /mnt/sota
      batch-issuer extract issued --all --to bundles
    """  # noqa: D301 - click's mark for "do not wrap" is the character, not its escape
    import json

    from batch_issuer.cli.progress import Progress
    from batch_issuer.cli.secrets import identities_of
    from batch_issuer.extraction import extract as copy

    if everything == bool(device_uuids):
        raise click.UsageError("expected either UUIDs or --all")
    progress = Progress(quiet=quiet, verb="extracted")
    identities = identities_of(identity_files, progress.warn)
    wanted = None if everything else device_uuids
    count = copy(out, wanted, to, identities=identities, passwords=passwords, warn=progress.warn)
    if as_json:
        click.echo(json.dumps({"devices": count, "to": str(to)}))
    elif not quiet:
        click.echo(f"{counted(count, 'bundle')} extracted to {to}")
