"""How long a run will take, from a moment's work on this machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["seconds_for"]

_SAMPLE = 400
_LONGEST_SECONDS = 0.25
"""A token far away may take long for each signature: then it gives fewer."""

_OVERHEAD = 1.5
"""A run's time over that of its keys and signatures alone, on a file system that keeps up."""


_CSR = 3
"""What the check of a CSR takes, in keys and signatures: most of it is the verification of the CSR's own signature."""


def seconds_for(
    devices: int,
    workers: int,
    sign: Callable[[bytes], bytes],
    *,
    csr_rows: int = 0,
    store: Callable[[], object] | None = None,
) -> float:
    """About how many seconds a run takes.

    Args:
        devices: how many.
        workers: processes, each on a core of its own.
        sign: the CA's signature, which some hundred zeros are given to; a token is taken to serve them side by side.
        csr_rows: how many of the devices bring a CSR.
        store: what storing a device's bundle takes beside that, if it is much: PKCS#12's derived keys.

    Raises:
        RunFailedError: the CA's token fails.
    """
    curve, data = ec.SECP256R1(), bytes(400)
    began = now = time.perf_counter()
    done = 0
    while done < _SAMPLE and now - began < _LONGEST_SECONDS:
        ec.generate_private_key(curve)
        sign(data)
        if store is not None:
            store()
        done, now = done + 1, time.perf_counter()
    return (now - began) / done * (devices + _CSR * csr_rows) / workers * _OVERHEAD
