"""`batch-issuer verify`: the second pair of eyes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from batch_issuer.cli.command import Command
from batch_issuer.cli.options import FOLDER, identity_option, json_option, verbosity_options, workers_option
from batch_issuer.cli.p12 import p12_options
from batch_issuer.figures import counted

if TYPE_CHECKING:
    from batch_issuer.bundles.format import PasswordOf
    from batch_issuer.cli.progress import Progress
    from batch_issuer.output.record import RunRecord
    from batch_issuer.verification.anchors import Anchors
    from batch_issuer.verification.run import Report

__all__ = ["verify"]

_DEFAULT_PKI = Path("pki")
_SHOWN = 20
_FOUND = 4


@click.command(cls=Command)
@click.argument("out", type=FOLDER)
@click.option(
    "--pki",
    type=FOLDER,
    envvar="BATCH_ISSUER_PKI",
    show_default="pki, if it is there",
    show_envvar=True,
    help="The PKI directory whose certificates are trusted; no key of it is opened.",
)
@click.option("--ca-name", metavar="NAME", show_default="the run's", help="Which device CA of it issued the run.")
@click.option("--signed-by", metavar="NAME", help="Which signer of it must have signed the run.")
@identity_option
@p12_options
@workers_option
@json_option
@verbosity_options
def verify(
    out: Path,
    *,
    pki: Path | None,
    ca_name: str | None,
    signed_by: str | None,
    identity_files: tuple[Path, ...],
    passwords: PasswordOf | None,
    workers: int,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Check everything that a run wrote, by code that shares nothing with what wrote it.

    \b
    Examples:
      batch-issuer verify issued --pki pki
      batch-issuer verify issued --json > report.json

    Every certificate octet by octet and its signature, every key, every bundle, the output manifest, the modes,
    SHA256SUMS and who signed it;
    and over the whole run that nothing is there twice, missing or unknown. Exit code 4 when something is found.
    """  # noqa: D301 - click's mark for "do not wrap" is the character, not its escape
    from batch_issuer.cli.progress import Progress
    from batch_issuer.cli.secrets import identities_of
    from batch_issuer.output.folder import OutputFolder
    from batch_issuer.output.record import read_record
    from batch_issuer.verification.run import verify_run

    progress = Progress(quiet=quiet, verb="verified")
    record = read_record(OutputFolder(out).record)
    anchors = _anchors(pki, ca_name, signed_by, record, progress)
    identities = identities_of(identity_files, progress.warn)
    progress.begin(record.accepted)
    try:
        report = verify_run(
            out,
            anchors=anchors,
            workers=workers,
            identities=identities,
            passwords=passwords,
            progress=progress.advance,
            notify=progress.warn,
        )
    finally:
        progress.end()
    _tell(report, as_json=as_json, most=len(report.findings) if verbose else _SHOWN)
    if not report.clean:
        click.get_current_context().exit(_FOUND)


def _anchors(
    pki: Path | None, ca_name: str | None, signed_by: str | None, record: RunRecord, progress: Progress
) -> Anchors | None:
    from batch_issuer.verification.anchors import read_anchors

    if pki is None and _DEFAULT_PKI.is_dir():
        pki = _DEFAULT_PKI
    if pki is not None:
        return read_anchors(pki, ca_name or record.ca_name, signed_by)
    if ca_name is not None:
        raise click.UsageError("--ca-name names a CA of a PKI directory; name that by --pki")
    if signed_by is not None:
        raise click.UsageError("--signed-by names a signer of a PKI directory; name that by --pki")
    progress.warn(
        "no PKI directory: the run is checked only against the certificates that it recorded itself; "
        "whoever changed the run may have changed these (--pki names the factory's)"
    )
    return None


def _tell(report: Report, *, as_json: bool, most: int) -> None:
    import json
    from dataclasses import asdict

    for finding in report.findings[:most]:
        click.echo(str(finding), err=True)
    total = sum(report.counts.values())
    if total > most:
        click.echo(f"… and {total - most:,} more; by code:", err=True)
        for code, count in report.counts.items():
            click.echo(f"  {count:>9,}  {code}", err=True)
    if as_json:
        click.echo(json.dumps(asdict(report), indent=2))
        return
    rate = report.devices / max(report.seconds, 1e-9)
    what = "nothing is wrong" if report.clean else counted(total, "finding")
    parts = f"{report.parts:,} of {counted(report.expected_parts, 'part')}"
    unfinished = "" if report.complete else "; the run is unfinished"
    signed = "" if report.signer is None else f", signed by {report.signer}"
    click.echo(
        f"{report.devices:,} of {counted(report.expected, 'device')} in {parts} verified in {report.seconds:.1f} s "
        f"({rate:,.0f}/s): {what}{unfinished}{signed}"
    )
