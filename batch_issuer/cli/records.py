"""What a run was asked, wherever it lives: for commands that must know it before they begin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batch_issuer.output.record import RunRecord
    from batch_issuer.stores.address import StoreAddress

__all__ = ["record_at"]

_FIRST_RETRIES = 3
"""At first contact: a wrong address is told in a second, and not after minutes."""


def record_at(out: Path | StoreAddress) -> RunRecord:
    """The record of the run in a folder, or at a prefix in a store.

    Raises:
        OutputError: there is none, or it is damaged.
        StoreError: the store refuses or fails.
    """
    from batch_issuer.output.folder import OutputFolder
    from batch_issuer.output.record import decode_record, read_record

    if isinstance(out, Path):
        return read_record(OutputFolder(out).record)
    from batch_issuer.stores.opening import open_store

    return decode_record(open_store(out, retries=_FIRST_RETRIES).get("run.json"), str(out))
