"""How long a run will take, from a moment's work on this machine."""

from __future__ import annotations

import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

__all__ = ["seconds_for"]

_SAMPLE = 400
_OVERHEAD = 1.5
"""A run's time over that of its keys and signatures alone, on a file system that keeps up."""


_CSR = 3
"""What the check of a CSR takes, in keys and signatures: most of it is the verification of the CSR's own signature."""


def seconds_for(devices: int, workers: int, *, csr_rows: int = 0) -> float:
    """About how many seconds a run of `devices` takes with so many workers, each on a core of its own."""
    curve, algorithm, data = ec.SECP256R1(), ec.ECDSA(hashes.SHA256()), bytes(400)
    key = ec.generate_private_key(curve)
    began = time.perf_counter()
    for _ in range(_SAMPLE):
        ec.generate_private_key(curve)
        key.sign(data, algorithm)
    return (time.perf_counter() - began) / _SAMPLE * (devices + _CSR * csr_rows) / workers * _OVERHEAD
