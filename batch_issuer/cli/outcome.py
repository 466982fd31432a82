"""What `issue` says when it has ended: as lines, or as one JSON object."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from batch_issuer.cli.command import show_rejections, tell_result
from batch_issuer.figures import counted, size

if TYPE_CHECKING:
    from batch_issuer.batch.dry_run import DryRun
    from batch_issuer.batch.request import RunRequest
    from batch_issuer.batch.summary import Summary

__all__ = ["show_dry_run", "show_summary"]


def show_summary(summary: Summary, request: RunRequest, *, as_json: bool, quiet: bool, verbose: bool) -> None:
    """What a run has done."""
    if as_json:
        tell_result(summary.to_json().removesuffix(b"\n"))
        return
    if quiet or summary.finished_before:
        return
    lines = [_headline(summary)]
    if summary.rejected:
        lines.append(f"{counted(summary.rejected, 'row')} rejected: {summary.out}/rejects.csv says why")
    lines += [
        f"  bundles   {summary.out}/bundles  ({counted(summary.parts, 'part')} as {summary.format}, "
        f"{size(summary.octets)} written)",
        *_key_lines(summary.csr_rows, summary.devices),
        *_password_lines(summary.out, request),
        f"  manifest  {summary.manifest}",
        f"  validity  {summary.not_before} to {summary.not_after}",
    ]
    if summary.report is not None:
        lines.append(f"  report    {summary.report}  (for any browser)")
    if summary.reissued:
        lines.append(
            f"  reissued  {counted(summary.reissued, 'device')}; gateways that know a device by another key answer 502"
        )
    if request.seal_to:
        lines.append(f"  sealed    to {counted(len(set(request.seal_to)), 'recipient')}; --identity FILE opens them")
    if summary.signer is not None:
        lines.append(f"  signed    {summary.out}/SHA256SUMS.sig, by {summary.signer}")
    if verbose:
        lines.append(f"  lint      {_judged(summary, request)}")
        lines.append(
            f"  seconds   plan {summary.plan_seconds}, start {summary.start_seconds}, issue {summary.issue_seconds},"
            f" finish {summary.finish_seconds} ({counted(summary.workers, 'worker')}, keys by {summary.key_engine})"
        )
    opened = " --identity FILE" if request.seal_to else ""
    lines.append(f"  next      batch-issuer verify {summary.out} --pki {request.pki}{opened}")
    tell_result("\n".join(lines).encode(errors="surrogateescape"))  # a folder may have any name


def _judged(summary: Summary, request: RunRequest) -> str:
    if summary.linted_by is not None:
        return f"{summary.linted_by} finds no error in the first certificate"
    return "skipped: pkilint is not installed (pip install 'batch-issuer[lint]')" if request.lint else "not asked for"


def _key_lines(csr_rows: int, devices: int) -> list[str]:
    if not csr_rows:
        return []
    return [f"  keys      {devices - csr_rows:,} made here, {csr_rows:,} kept by their devices"]


def _password_lines(out: str, request: RunRequest) -> list[str]:
    from batch_issuer.output.record import PER_DEVICE

    if request.p12_passwords != PER_DEVICE:
        return []
    return [f"  passwords {out}/p12-passwords.csv: keep it apart from the bundles"]


def _headline(summary: Summary) -> str:
    earlier = summary.devices - summary.devices_now
    total = summary.plan_seconds + summary.start_seconds + summary.issue_seconds + summary.finish_seconds
    spent = f"in {total:.1f} s, {summary.devices_per_second:,.0f}/s"
    if not earlier:
        return f"{counted(summary.devices, 'device')} issued {spent}"
    now = f"{summary.devices_now:,} now {spent}" if summary.devices_now else "none now"
    return f"{counted(summary.devices, 'device')} issued: {earlier:,} before, {now}"


def show_dry_run(found: DryRun, request: RunRequest, *, as_json: bool) -> None:
    """What a run would do; what is wrong with its rows goes to standard error."""
    record = found.record
    if as_json:
        values = {
            "dry_run": True,
            "rows": record.rows,
            "devices": record.accepted,
            "csr_rows": record.csr_rows,
            "rejected": record.rows - record.accepted,
            "parts": record.parts,
            "octets": found.octets,
            "seconds": round(found.seconds, 1),
            "not_before": record.not_before,
            "not_after": record.not_after,
            "warnings": found.warnings,
        }
        click.echo(json.dumps(values, indent=2))
        return
    show_rejections(found.rejections)
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)
    lines = [
        f"{counted(record.accepted, 'device')} of {counted(record.rows, 'row')} would be issued "
        f"by {record.ca_name} of {record.factory}",
        f"  parts     {record.parts:,} of up to {counted(record.part_size, 'device')}, as {record.format}",
        *_key_lines(record.csr_rows, record.accepted),
        f"  size      about {size(found.octets)}",
        f"  time      about {found.seconds:,.0f} s with {counted(request.workers, 'worker')}",
        f"  validity  {record.not_before} to {record.not_after}",
        "nothing was written",
    ]
    click.echo("\n".join(lines))
