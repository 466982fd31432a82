"""`batch-issuer export`: a run's devices for a cloud's bulk import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from batch_issuer.cli.command import Command, tell_result
from batch_issuer.cli.options import FOLDER, OUT_FOLDER, identity_option, json_option, verbosity_options
from batch_issuer.cli.p12 import p12_options
from batch_issuer.figures import counted

if TYPE_CHECKING:
    from batch_issuer.bundles.format import PasswordOf
    from batch_issuer.exporting.run import Export

__all__ = ["export"]

_TARGETS = ("aws", "nrfcloud", "rainmaker", "azure", "csv")


@click.command(cls=Command)
@click.argument("out", type=OUT_FOLDER)
@click.option("--for", "target", required=True, type=click.Choice(_TARGETS), help="Who imports the devices.")
@click.option("--to", type=FOLDER, show_default="OUT-TARGET", help="Where the files go; made if it is not there.")
@identity_option
@p12_options
@json_option
@verbosity_options
def export(
    out: Path,
    *,
    target: str,
    to: Path | None,
    identity_files: tuple[Path, ...],
    passwords: PasswordOf | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,  # noqa: ARG001 - read where errors are reported
) -> None:
    """Write a run's devices and certificates as the files that a cloud's bulk import takes. Never a private key.

    \b
    Examples:
      batch-issuer export issued --for nrfcloud
      batch-issuer export issued --for aws --to for-aws

    \b
    aws        AWS IoT bulk registration: JSON lines, with aws-template.json
    nrfcloud   nRF Cloud onboarding: CSV, 1,000 devices per file
    rainmaker  ESP RainMaker node registration: CSV
    azure      Azure IoT Hub import job: JSON lines with thumbprints, 1,000,000 devices per file
    csv        everything else: one CSV with certificates and digests

    Only a finished run is exported. Files are never overwritten; the same command again changes nothing.
    """  # noqa: D301 - click's mark for "do not wrap" is the character, not its escape
    import json
    from dataclasses import asdict

    from batch_issuer.cli.progress import Progress
    from batch_issuer.cli.secrets import identities_of
    from batch_issuer.core_dumps import forbid_core_dumps
    from batch_issuer.exporting.run import export_run
    from batch_issuer.exporting.targets import export_target

    forbid_core_dumps()  # bundles are read, and with them keys
    chosen = export_target(target)
    progress = Progress(quiet=quiet, verb="exported")
    identities = identities_of(identity_files, progress.warn)
    to = to or Path(f"{out}-{target}")
    done = export_run(out, chosen, to, progress, identities=identities, passwords=passwords)
    if as_json:
        tell_result(json.dumps(asdict(done), indent=2))
    elif not quiet:
        tell_result(_told(done, chosen.hint))


def _told(done: Export, hint: str) -> str:
    more = "" if done.written == len(done.files) else f", {done.written:,} of them new"
    exported = f"{counted(done.devices, 'device')} exported to {done.to} in {counted(len(done.files), 'file')}{more}"
    return f"{exported}\n  next  {hint}"
