"""What each worker process of this run's own cluster does first, by Dask's `preload`, before it is sent anything."""

from __future__ import annotations

import signal

from batch_issuer.core_dumps import forbid_core_dumps

__all__ = ["dask_setup"]


def dask_setup(_worker: object) -> None:
    """No core dumps; and signals of the terminal, which go to all of its processes, are for the command alone."""
    forbid_core_dumps()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
