"""`batch-issuer issue`: the main job."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batch_issuer.cli.cluster import cluster_options
from batch_issuer.cli.command import Command
from batch_issuer.cli.options import (
    DURATION,
    FILE,
    PLACE,
    SIZE,
    PathOrAddress,
    hsm_options,
    json_option,
    pki_option,
    scratch_option,
    verbosity_options,
    workers_option,
)
from batch_issuer.cli.outcome import show_dry_run, show_summary

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["issue"]

_EXAMPLES = """\b
Examples:
  batch-issuer issue --manifest devices.csv --hardware-id imx8mm
  batch-issuer issue --manifest devices.parquet --format parquet --out lot-7 --workers 8
  batch-issuer issue --manifest devices.parquet --format parquet --out lot-7 --resume
  batch-issuer issue --manifest devices.parquet --format parquet --out lot-9 --engine dask
  mes-export | batch-issuer issue --manifest - --out lot-8 --dry-run
  batch-issuer issue --manifest devices.csv --format tar --out s3://factory-7/lot-9
"""
_FORMATS = ("dir", "tar", "tar.zst", "parquet", "p12")
_WORKER_MODULES = ("batch_issuer.batch.part", "batch_issuer.bundles.parquet", "batch_issuer.cli")
_HSM_MODULE = "batch_issuer.authority.token_keys"
"""Imported where workers are forked from, and not initialised there: PKCS#11 must not be before a fork."""

_STORE_MODULE = "batch_issuer.stores.store"
"""The same: obstore has no threads before the first request."""

_MANIFEST = PathOrAddress(click.Path(dir_okay=False, allow_dash=True, path_type=Path))

_KEY_ENGINE = click.Choice(("auto", "openssl", "aws-lc"))
_PLAN_MEMORY = "1GB, at most a quarter of what this process may use"


def _plan_memory() -> int:
    from batch_issuer.memory import memory_of_this_process
    from batch_issuer.scratch import DEFAULT_MEMORY

    return min(DEFAULT_MEMORY, memory_of_this_process() // 4)


_PART_SIZE = click.IntRange(1, 1_000_000)

_HELP = {
    "manifest": "The devices: CSV or Parquet, told by content; s3://… too; - is CSV on standard input.",
    "ca_name": "Which device CA of the directory signs.",
    "ca_passphrase_file": "The passphrase of an encrypted CA key; also $BATCH_ISSUER_CA_PASSPHRASE, or a prompt.",
    "out": "A new or empty folder, or such a prefix in an object store: s3://bucket/prefix, gs://…, az://….",
    "format": "How bundles are stored.",
    "key_engine": "What makes keys; aws-lc needs the extra `fast`.",
    "p12_password_file": "The password of all .p12 bundles; also $BATCH_ISSUER_P12_PASSWORD, or a prompt.",
    "p12_random_passwords": "Make a password for each .p12 bundle, listed in p12-passwords.csv.",
    "seal_to": "Encrypt each part to this age recipient before it is written; may be repeated.",
    "part_size": "Devices per part: the unit of work, commit and resume.",
    "plan_memory": "For what the plan must know of all rows, such as 512MB; more goes into files.",
    "days": "Validity, never beyond the CA's.",
    "backdate": "How far notBefore lies back, for devices whose clock is slow.",
    "production": "Whether devices are of production, unless their row says otherwise.",
    "sota": "For sota.toml, of devices whose row names none.",
    "host": "For sota.toml.  [default: from tls-crt]",
    "device_hsm": "sota.toml is for devices with their key in an HSM; every row must bring a CSR.",
    "device_hsm_module": "Its PKCS#11 module, on the device; the PIN is added there.",
    "skip_rejects": "Issue the good rows, report the bad ones, exit 3.",
    "lint": "Ask pkilint, if it is installed, about the first certificate before any is made.",
    "resume": "Go on where a run stopped.",
    "dry_run": "Check everything, estimate time and size, write nothing.",
    "manifest_format": "Of the output manifest.  [default: as the input]",
    "with_certificates": "Add certificate_pem to the output manifest.",
    "ledger": "The ledger across runs: what it has is not issued again. Made if it is not there.",
    "reissue": "Issue devices again that the ledger has.",
    "sign_with": "Sign SHA256SUMS by this signer of the PKI directory (`ca add-signer`).",
    "report": "Write report.html, a page that shows what happened in the run.",
    "spreadsheet_safe": "In CSV output, put ' before cells that a spreadsheet would run.",
}


@click.command(cls=Command, epilog=_EXAMPLES)
@click.option("--manifest", required=True, type=_MANIFEST, help=_HELP["manifest"])
@pki_option
@click.option("--ca-name", default="local-ca", show_default=True, help=_HELP["ca_name"])
@click.option("--ca-passphrase-file", type=FILE, help=_HELP["ca_passphrase_file"])
@hsm_options
@click.option("--out", type=PLACE, default=Path("issued"), show_default=True, help=_HELP["out"])
@scratch_option
@click.option("--format", type=click.Choice(_FORMATS), default="dir", show_default=True, help=_HELP["format"])
@click.option("--p12-password-file", type=FILE, help=_HELP["p12_password_file"])
@click.option("--p12-random-passwords", is_flag=True, help=_HELP["p12_random_passwords"])
@click.option("--seal-to", metavar="RECIPIENT", multiple=True, help=_HELP["seal_to"])
@workers_option
@click.option("--key-engine", type=_KEY_ENGINE, default="auto", show_default=True, help=_HELP["key_engine"])
@cluster_options
@click.option("--part-size", type=_PART_SIZE, default=5000, show_default=True, help=_HELP["part_size"])
@click.option("--plan-memory", type=SIZE, default=_plan_memory, show_default=_PLAN_MEMORY, help=_HELP["plan_memory"])
@click.option("--days", type=click.IntRange(1, 36_500), default=7300, show_default=True, help=_HELP["days"])
@click.option("--backdate", type=DURATION, default="1h", show_default=True, help=_HELP["backdate"])
@click.option("--production/--no-production", default=False, show_default=True, help=_HELP["production"])
@click.option("--hardware-id", metavar="ID", help=_HELP["sota"])
@click.option("--tag", metavar="TAG", help=_HELP["sota"])
@click.option("--gateway", metavar="HOST[:PORT]", help=_HELP["host"])
@click.option("--ostree", metavar="HOST[:PORT]", help=_HELP["host"])
@click.option("--device-hsm", is_flag=True, help=_HELP["device_hsm"])
@click.option("--device-hsm-module", metavar="PATH", help=_HELP["device_hsm_module"])
@click.option("--skip-rejects", is_flag=True, help=_HELP["skip_rejects"])
@click.option(
    "--lint/--no-lint",
    default=True,
    envvar="BATCH_ISSUER_LINT",
    show_default=True,
    show_envvar=True,
    help=_HELP["lint"],
)
@click.option("--resume", is_flag=True, help=_HELP["resume"])
@click.option("--dry-run", "dry", is_flag=True, help=_HELP["dry_run"])
@click.option("--manifest-format", type=click.Choice(("csv", "parquet")), help=_HELP["manifest_format"])
@click.option("--with-certificates", is_flag=True, help=_HELP["with_certificates"])
@click.option("--spreadsheet-safe", is_flag=True, help=_HELP["spreadsheet_safe"])
@click.option("--report/--no-report", default=True, show_default=True, help=_HELP["report"])
@click.option("--ledger", type=FILE, help=_HELP["ledger"])
@click.option("--reissue", is_flag=True, help=_HELP["reissue"])
@click.option("--sign-with", metavar="NAME", help=_HELP["sign_with"])
@json_option
@verbosity_options
@click.pass_context
def issue(ctx: click.Context, /, **options: Any) -> None:
    """Issue a key, a certificate and a bundle for every device of a manifest.

    Killed or out of disk space, it loses nothing: the same command with --resume issues exactly the devices that are
    not yet issued.

    Exit codes: 0 done, 1 failed (resumable if it says so), 2 refused, 3 rows were rejected, 130 interrupted.
    """
    from batch_issuer.core_dumps import forbid_core_dumps
    from batch_issuer.processes import prepare_workers

    as_json, quiet, verbose = (options.pop(name) for name in ("as_json", "quiet", "verbose"))
    dry = options.pop("dry")
    if options["reissue"] and options["ledger"] is None:
        raise click.UsageError("--reissue is for --ledger")
    options["prefix"] = None
    if not isinstance(options["out"], Path):
        options["prefix"], options["out"] = options["out"], Path()
    elif options["scratch"] is not None:
        raise click.UsageError("--scratch is for --out s3://…")
    forbid_core_dumps()
    options["p12_passwords"], p12_password = _p12(options)
    if not dry:
        needed = {_HSM_MODULE: options["token"], "pyrage": options["seal_to"], _STORE_MODULE: options["prefix"]}
        modules = (*_WORKER_MODULES, *(module for module, asked in needed.items() if asked))
        prepare_workers(modules)  # they import while this process reads and checks
    from batch_issuer.batch.dry_run import dry_run
    from batch_issuer.batch.means import Secrets
    from batch_issuer.batch.request import RunRequest
    from batch_issuer.batch.run import issue as run
    from batch_issuer.cli.progress import Progress
    from batch_issuer.cli.secrets import ca_passphrase

    secrets = Secrets(ca_passphrase(options.pop("ca_passphrase_file")), options.pop("token"), p12_password)
    manifest = options.pop("manifest")
    request = RunRequest(manifest=None if str(manifest) == "-" else manifest, **options)
    now = datetime.now(UTC)
    if dry:
        found = dry_run(request, now=now, secrets=secrets)
        show_dry_run(found, request, as_json=as_json)
        ctx.exit(3 if len(found.rejections) else 0)
    summary = run(request, Progress(quiet=quiet), now=now, secrets=secrets)
    show_summary(summary, request, as_json=as_json, quiet=quiet, verbose=verbose)
    if summary.rejected and not summary.finished_before:
        ctx.exit(3)


def _p12(options: dict[str, Any]) -> tuple[str | None, Callable[[], bytes] | None]:
    """Which kind of passwords the run has, and what gives the one that is given."""
    from batch_issuer.cli.secrets import p12_password
    from batch_issuer.output.record import PER_DEVICE, PER_RUN

    file, random = options.pop("p12_password_file"), options.pop("p12_random_passwords")
    if options["format"] != "p12":
        if file is not None or random:
            raise click.UsageError("--p12-password-file and --p12-random-passwords are for --format p12")
        return None, None
    if random and file is not None:
        raise click.UsageError("--p12-random-passwords makes passwords; --p12-password-file gives one: take either")
    return (PER_DEVICE, None) if random else (PER_RUN, p12_password(file, new=True))
