"""A small run's request, for tests that go into the run and not around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import runs
from pki import make_pki

from batch_issuer.batch.request import RunRequest

if TYPE_CHECKING:
    from pathlib import Path


def small_run(folder: Path) -> RunRequest:
    """Seven devices in three parts, with a PKI and a manifest made for it in `folder`."""
    make_pki(folder / "pki")
    runs.write_manifest(folder / "devices.parquet", 7)
    return RunRequest(
        manifest=folder / "devices.parquet",
        pki=folder / "pki",
        out=folder / "out",
        workers=1,
        part_size=3,
        hardware_id="hw",
        resume=True,
    )


def changed(asked: RunRequest, **options: Any) -> RunRequest:
    """The same request, asked otherwise."""
    return RunRequest(**{field: getattr(asked, field) for field in asked.__slots__} | options)
