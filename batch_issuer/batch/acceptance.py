"""The last questions of the plan: is it the run that is to be resumed, and is there room for it?"""

from __future__ import annotations

import os
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from batch_issuer.batch.terms import device_issuance, sota_settings
from batch_issuer.bundles.format import bundle_format
from batch_issuer.bundles.sota import sota_toml
from batch_issuer.errors import OutputError
from batch_issuer.minting.template import cut_template

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.bundles.format import Footprint
    from batch_issuer.output.record import RunRecord

__all__ = ["check_same", "check_space"]

_ROW_OCTETS = 330
"""Octets of a row of the output manifest, without what is carried through."""

_SHOWN = 60


def check_same(before: RunRecord, now: RunRecord) -> RunRecord:
    """The record of the run to resume, which must be what is asked now; its validity window stays as it was.

    Raises:
        OutputError: something differs, by name.
    """
    now = replace(now, not_before=before.not_before, not_after=before.not_after, manifest=before.manifest)
    differing = [field.name for field in fields(now) if getattr(now, field.name) != getattr(before, field.name)]
    if not differing:
        return before
    if "manifest_sha256" in differing:
        raise OutputError(
            f"the manifest is not the one that the run began with: SHA-256 {now.manifest_sha256}, "
            f"expected {before.manifest_sha256}",
            hint="give it the manifest it began with, or issue the new one into another folder",
        )
    told = ", ".join(f"{name} was {_told(before, name)}, now {_told(now, name)}" for name in differing)
    raise OutputError(
        f"the run began otherwise: {told}", hint="resume with the options it began with; run.json has them all"
    )


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
    footprint = bundle_format(record.format).footprint(
        record.accepted,
        record.parts,
        certificate=cut_template(issuance, production=True).longest,
        root=len(root),
        sota=0 if sota is None else len(sota_toml(sota, hardware_id=sota.hardware_id or "?" * 20)),
        block_size=status.f_frsize,
    )
    # Twice a row: once in its part's commit record, once in the output manifest.
    octets = footprint.octets + 2 * (record.accepted * _ROW_OCTETS + spilled)
    free = status.f_bavail * status.f_frsize
    if octets > free:
        raise OutputError(
            f"the output folder's file system has {free / 1e9:.2f} GB free, "
            f"and the run needs about {octets / 1e9:.2f} GB",
            hint="make space, or take another --out",
        )
    if status.f_files and footprint.inodes > status.f_favail:
        raise OutputError(
            f"the output folder's file system has {status.f_favail} inodes free, and the run needs {footprint.inodes}",
            hint="take --format tar or parquet, which need one per part",
        )
    return replace(footprint, octets=octets)


def _told(record: RunRecord, name: str) -> str:
    value = getattr(record, name)
    text = "none" if value is None else str(value)
    return text if len(text) <= _SHOWN else "another"
