"""`batch-issuer register`: a run's devices at the factory's API, ahead of first contact."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from batch_issuer.cli.command import Command, tell_result
from batch_issuer.cli.options import FILE, FOLDER, identity_option, json_option, token_file_option, verbosity_options
from batch_issuer.cli.p12 import p12_options
from batch_issuer.figures import counted

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.bundles.format import PasswordOf
    from batch_issuer.registering.report import Forecast, Report

__all__ = ["register"]

_SHOWN = 20
_UNITS = {"s": 1, "m": 60}
_HINTS = {
    "conflict": "something else has the UUID or the name: a device with another key, or a deleted one on the factory's "
    "deny list (fioctl devices list-denied, delete-denied); change the name, or clear that away, and run this again",
    "refused": "put right what the API names, and run this again",
    "failed": "run this again: only devices that are not registered are sent",
}


class Rate(click.ParamType[float]):
    """Requests in a time: 20/s, 0.5/s, 600/m; without a unit per second."""

    name = "rate"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The requests per second of a value such as 20/s."""
        match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(?:/([sm]))?", str(value))
        if match is None or not float(match[1]):
            self.fail(f"expected a number of requests per s or m, such as 20/s; got {value!r}", param, ctx)
        return float(match[1]) / _UNITS[match[2] or "s"]


@click.command(cls=Command)
@click.argument("out", type=FOLDER)
@click.option("--api", metavar="URL", required=True, help="The factory's API, such as https://api.foundries.io.")
@click.option("--api-ca", type=FILE, help="Certificates to trust for it, PEM, instead of the system's.")
@token_file_option
@click.option("--group", metavar="GROUP", help="The device group of devices whose row of the manifest names none.")
@click.option("--rate", type=Rate(), default="20/s", show_default=True, help="Requests at most.")
@click.option("--concurrency", type=click.IntRange(1, 256), default=8, show_default=True, help="Requests at a time.")
@p12_options
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@identity_option
@json_option
@verbosity_options
def register(
    out: Path,
    *,
    api: str,
    api_ca: Path | None,
    token_file: Path | None,
    group: str | None,
    rate: float,
    concurrency: int,
    passwords: PasswordOf | None,
    dry_run: bool,
    identity_files: tuple[Path, ...],
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Create a run's devices at the factory's API before they first call, with name and group.

    \b
    Examples:
      batch-issuer register issued --api https://api.foundries.io --token-file token --dry-run
      batch-issuer register issued --api https://api.foundries.io --token-file token --group line3 --rate 50/s

    Name and group come from the manifest's columns `name` and `group`. Only certificates are sent, never a key. What
    becomes of each device is written to registered.csv in OUT; run again, only devices that the API does not have yet
    are sent. Exit code 1 when any is not registered.
    """  # noqa: D301 - click's mark for "do not wrap" is the character, not its escape
    from batch_issuer.cli.progress import Progress
    from batch_issuer.cli.secrets import api_token, identities_of
    from batch_issuer.extras import need_extra

    need_extra("gateway", "aiohttp")
    from batch_issuer.factory_api.endpoint import Endpoint, base_url
    from batch_issuer.registering.run import forecast, register_run

    progress = Progress(quiet=quiet, verb="sent")
    url, group = base_url(api), group or None
    if dry_run:
        _tell_forecast(forecast(out, api=url, group=group, observer=progress), as_json=as_json)
        return
    endpoint = Endpoint.of(url, api_token(token_file), ca_file=api_ca)
    report = register_run(
        out,
        endpoint,
        group=group,
        rate=rate,
        concurrency=concurrency,
        observer=progress,
        identities=identities_of(identity_files, progress.warn),
        passwords=passwords,
    )
    _tell(report, as_json=as_json, quiet=quiet, most=len(report.reasons) if verbose else _SHOWN)
    if not report.registered:
        click.get_current_context().exit(1)


def _tell_forecast(expected: Forecast, *, as_json: bool) -> None:
    if as_json:
        tell_result(_json(expected))
        return
    tell_result(
        f"{counted(expected.to_send, 'device')} would be sent to {expected.api}, {expected.named:,} with a name, "
        f"{expected.grouped:,} with a group; {expected.registered:,} of {expected.devices:,} are registered already"
    )


def _tell(report: Report, *, as_json: bool, quiet: bool, most: int) -> None:
    for line in _table(report, most):
        click.echo(line, err=True)
    for outcome in dict.fromkeys(reason.outcome for reason in report.reasons):
        click.echo(f"hint: {outcome}: {_HINTS[outcome]}", err=True)
    if as_json:
        tell_result(_json(report))
    elif not quiet or not report.registered:
        sent = report.created + report.existed
        wrong = [f"{report.conflicts:,} conflicts", f"{report.refused:,} refused", f"{report.failed:,} failed"]
        tell_result(
            f"{sent + report.already:,} of {counted(report.devices, 'device')} registered at {report.api}: "
            f"{report.created:,} new, {report.existed:,} there before, {report.already:,} in an earlier run"
            + ("" if report.registered else f"; {', '.join(wrong)}")
        )


def _table(report: Report, most: int) -> list[str]:
    if not report.reasons:
        return []
    lines = [f"{'devices':>9}  outcome   status  what the API said"]
    for reason in report.reasons[:most]:
        said = f"{reason.message}, such as {reason.example}"
        lines.append(f"{reason.devices:>9,}  {reason.outcome:<8}  {reason.status or '-':>6}  {said}")
    more = len(report.reasons) - most
    return [*lines, f"… and {counted(more, 'reason')} more; -v lists them all"] if more > 0 else lines


def _json(value: Any) -> str:
    import json
    from dataclasses import asdict

    return json.dumps(asdict(value), indent=2)
