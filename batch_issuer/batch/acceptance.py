"""The last questions of the plan: is it the run that is to be resumed, and is there room for it?"""

from __future__ import annotations

import os
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from batch_issuer.batch.terms import device_issuance, sota_settings
from batch_issuer.bundles.recipients import checked_recipients
from batch_issuer.bundles.sealed import writable_format
from batch_issuer.bundles.sota import sota_toml
from batch_issuer.errors import OutputError
from batch_issuer.figures import size
from batch_issuer.minting.template import cut_template
from batch_issuer.output.record import format_time

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from batch_issuer.bundles.format import Footprint
    from batch_issuer.output.record import RunRecord

__all__ = ["check_manifest", "check_same", "check_sealing", "check_signer", "check_space"]

_ROW_OCTETS = 330
"""Octets of a row of the output manifest, without what is carried through."""

_SUM_OCTETS = 128
"""Octets of a line of SHA256SUMS, at most."""

_SHOWN = 60


def check_manifest(before: RunRecord, sha256: str) -> None:
    """Is it the manifest that the run began with?

    Raises:
        OutputError: it is another.
    """
    if sha256 != before.manifest_sha256:
        raise OutputError(
            f"the manifest is not the one that the run began with: SHA-256 {sha256}, expected {before.manifest_sha256}",
            hint="give it the manifest it began with, or issue the new one into another folder",
        )


def check_signer(before: RunRecord, name: str | None) -> None:
    """Is it the signer that the finished run has, by name?

    Raises:
        OutputError: it is another, or there was none.
    """
    if name != before.signer:
        told = _difference("signer", before.signer, name)
        raise OutputError(f"the run began otherwise, and is finished: {told}", hint="a finished run is not signed anew")


def check_sealing(before: RunRecord, seal_to: Sequence[str]) -> None:
    """Is it sealed, as the finished run is, to these recipients?

    Raises:
        OutputError: the run is sealed to others, or to none.
        RefusedError: a recipient is none.
    """
    asked = checked_recipients(seal_to)
    if asked != before.seal_to:
        told = _difference("seal_to", before.seal_to, asked)
        raise OutputError(f"the run began otherwise, and is finished: {told}", hint="a finished run is not sealed anew")


def check_same(before: RunRecord, asked: RunRecord, *, now: datetime) -> RunRecord:
    """The record of the run to resume, which must be what is asked; its validity window stays as it was.

    Raises:
        OutputError: something differs, by name, or the window is over or has not begun.
    """
    check_manifest(before, asked.manifest_sha256)
    asked = replace(asked, not_before=before.not_before, not_after=before.not_after, manifest=before.manifest)
    differing = [field.name for field in fields(asked) if getattr(asked, field.name) != getattr(before, field.name)]
    if differing:
        told = ", ".join(_difference(name, getattr(before, name), getattr(asked, name)) for name in differing)
        raise OutputError(
            f"the run began otherwise: {told}", hint="resume with the options it began with; run.json has them all"
        )
    if not before.starts <= now <= before.ends:
        raise OutputError(
            f"the run's certificates are valid from {before.not_before} to {before.not_after}, and now it is "
            f"{format_time(now)}",
            hint="look at this machine's clock; or issue what is left into another folder",
        )
    return before


def check_space(record: RunRecord, root: bytes, folder: Path, *, spilled: int) -> Footprint:
    """What the run takes on its file system, which must have that much left.

    Args:
        record: the run.
        root: the root certificate, DER.
        folder: a folder on the file system.
        spilled: octets of the accepted rows.

    Raises:
        OutputError: it is too small.
    """
    status = os.statvfs(folder)
    issuance = device_issuance(record)
    sota = sota_settings(record)
    footprint = writable_format(record.format, record.seal_to).footprint(
        record.accepted,
        record.parts,
        certificate=cut_template(issuance, production=True).longest,
        root=len(root),
        sota=0 if sota is None else len(sota_toml(sota, hardware_id=sota.hardware_id or "?" * 20)),
        block_size=status.f_frsize,
    )
    # Twice a row and a line: once in its part's commit record, once in the output manifest and in SHA256SUMS.
    octets = footprint.octets + 2 * (record.accepted * _ROW_OCTETS + footprint.inodes * _SUM_OCTETS + spilled)
    free = status.f_bavail * status.f_frsize
    if octets > free:
        raise OutputError(
            f"the output folder's file system has {size(free)} free, and the run needs about {size(octets)}",
            hint="make space, or take another --out",
        )
    if status.f_files and footprint.inodes > status.f_favail:
        raise OutputError(
            f"the output folder's file system has {status.f_favail} inodes free, and the run needs {footprint.inodes}",
            hint="take --format tar or parquet, which need one per part",
        )
    return replace(footprint, octets=octets)


def _difference(name: str, before: object, now: object) -> str:
    texts = ["none" if value in (None, ()) else str(value) for value in (before, now)]
    if max(map(len, texts)) > _SHOWN:
        return f"{name} is another"
    return f"{name} was {texts[0]}, now {texts[1]}"
