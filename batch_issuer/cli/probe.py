"""`batch-issuer gateway probe`: every bundle's real request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from batch_issuer.cli.command import Command, tell_result
from batch_issuer.cli.options import FOLDER, identity_option, json_option, verbosity_options
from batch_issuer.cli.p12 import p12_options
from batch_issuer.figures import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batch_issuer.bundles.format import PasswordOf
    from batch_issuer.probe.report import Failures, Latency, Report

__all__ = ["probe"]

_FOUND = 4
_SEEDS = 1 << 32


@click.command(cls=Command)
@click.argument("out", type=FOLDER)
@click.option("--gateway", metavar="HOST:PORT", show_default="the run's", help="Where to connect.")
@click.option(
    "--server-name", metavar="NAME", show_default="the run's gateway", help="What its certificate must be for."
)
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Only so many devices, taken at random.")
@click.option(
    "--seed", type=click.IntRange(0, _SEEDS - 1), metavar="N", help="Of an earlier sample, to take the same devices."
)
@click.option(
    "--concurrency", type=click.IntRange(1, 1000), default=64, show_default=True, help="Devices at the same time."
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 60),
    default=10,
    show_default=True,
    metavar="SECONDS",
    help="For each device's whole conversation; no device is tried twice.",
)
@identity_option
@p12_options
@json_option
@verbosity_options
def probe(
    out: Path,
    *,
    gateway: str | None,
    server_name: str | None,
    sample: int | None,
    seed: int | None,
    concurrency: int,
    timeout: float,
    identity_files: tuple[Path, ...],
    passwords: PasswordOf | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,  # noqa: ARG001 - read where errors are reported
) -> None:
    """Prove bundles against a device gateway: each device of a run makes its real request.

    \b
    Examples:
      batch-issuer gateway probe issued
      batch-issuer gateway probe issued --gateway 127.0.0.1:8443 --sample 500

    With the bundle's own key, certificate and root.crt a full mutual-TLS handshake is made, the gateway's certificate
    and name are checked as the device would, then /repo/1.root.json and /device are asked for. A gateway registers a
    device that it did not know. Exit code 4 when any device fails.
    """  # noqa: D301 - click's mark for "do not wrap" is the character, not its escape
    from random import SystemRandom

    from batch_issuer.cli.progress import Progress
    from batch_issuer.cli.secrets import identities_of
    from batch_issuer.errors import Interrupted
    from batch_issuer.extras import need_extra

    need_extra("gateway", "aiohttp")
    from batch_issuer.probe.run import probe_devices
    from batch_issuer.probe.selection import select_devices
    from batch_issuer.probe.target import choose_target

    if seed is not None and sample is None:
        raise click.UsageError("--seed is the seed of a sample; say how large by --sample")
    progress = Progress(quiet=quiet, verb="probed")
    identities = identities_of(identity_files, progress.warn)
    chosen = SystemRandom().randrange(_SEEDS) if seed is None else seed
    selection = select_devices(out, sample=sample, seed=chosen, identities=identities, passwords=passwords)
    target = choose_target(selection.record, gateway, server_name)
    if not selection.finished:
        progress.warn(f"the run in {out} is unfinished: only what is committed can be probed")
    progress.begin(len(selection))
    try:
        report = probe_devices(selection, target, concurrency=concurrency, timeout=timeout, advance=progress.advance)
    finally:
        progress.end()
    tell_result(_json(report) if as_json else "\n".join(_lines(report)))
    if report.gave_up is not None:
        progress.warn(f"the probe ended early: {report.gave_up}")
    if report.interrupted:
        click.echo(f"error: interrupted: {report.probed:,} of {counted(report.chosen, 'device')} probed", err=True)
        click.get_current_context().exit(Interrupted.exit_code)
    if not report.clean:
        click.get_current_context().exit(_FOUND)


def _json(report: Report) -> str:
    import json
    from dataclasses import asdict

    return json.dumps(asdict(report) | {"devices_per_second": report.rate}, indent=2)


def _lines(report: Report) -> Iterator[str]:
    failed = report.probed - report.passed
    what = f"{failed:,} failed" if failed else "nothing is wrong"
    yield (
        f"{report.probed:,} of {counted(report.chosen, 'device')} probed at {report.gateway} "
        f"in {report.seconds:.1f} s ({report.rate:,.0f}/s): {what}"
    )
    if report.seed is not None:
        yield f"  sample     of {report.issued:,}, --seed {report.seed}"
    yield f"  name       {report.server_name}"
    for name, latency in (("handshake", report.handshake), ("in all", report.exchange)):
        if latency is not None:
            yield f"  {name:10} {_times(latency)}"
    if report.unconfirmed:
        yield f"  note       the gateway did not say whom it took {counted(report.unconfirmed, 'device')} for"
    for failures in report.failures:
        yield from _failure_lines(failures)


def _times(latency: Latency) -> str:
    named = (("median", latency.median), ("95%", latency.p95), ("99%", latency.p99), ("longest", latency.longest))
    return ", ".join(f"{name} {seconds * 1000:,.0f} ms" for name, seconds in named)


def _failure_lines(failures: Failures) -> Iterator[str]:
    yield ""
    yield f"{failures.count:>9,}  {failures.code}: {failures.explanation}"
    yield f"           seen: {failures.detail}"
    more = failures.count - len(failures.examples)
    for uuid in failures.examples:
        yield f"           {uuid}"
    if more:
        yield f"           … and {more:,} more"
