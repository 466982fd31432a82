"""A worker's clock: when it made its parts, and how fast its keys and signatures alone would be."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from batch_issuer.output.timing import PartTiming

if TYPE_CHECKING:
    from batch_issuer.devices import Sec1Der
    from batch_issuer.minting.keys import KeyEngine, Signature

__all__ = ["TimedCrypto", "WorkerClock"]

_MILLI, _MICRO = 1_000, 1_000_000


class WorkerClock:
    """Times one part after the other.

    Args:
        session: when the command began, milliseconds since 1970 in UTC.
    """

    def __init__(self, session: int) -> None:
        self._session = session
        self._worker = os.urandom(4).hex()
        self.begin()

    def begin(self) -> None:
        """A part is taken up."""
        self._began, self._at = time.time(), time.monotonic()

    def timing(self, signing_seconds: float = 0.0) -> PartTiming:
        """How the part went that was taken up last, until now.

        Args:
            signing_seconds: what its keys and signatures took of that, if it was measured.
        """
        return PartTiming(
            session=self._session,
            worker=self._worker,
            began=int(self._began * _MILLI),
            micros=int((time.monotonic() - self._at) * _MICRO),
            signing_micros=int(signing_seconds * _MICRO),
        )


class TimedCrypto:
    """An engine and a signature that say how long they took: 0.2 µs per device, so for some parts only.

    What is measured is what the run does anyway: the CA signs nothing but what is issued.

    Args:
        engine: what makes keys.
        sign: the CA's signature.

    Attributes:
        seconds: what both took.
    """

    def __init__(self, engine: KeyEngine, sign: Signature) -> None:
        self.name = engine.name
        self.seconds = 0.0
        self._engine, self._sign = engine, sign

    def private_keys(self, count: int) -> list[Sec1Der]:
        """As the engine does."""
        began = time.perf_counter()
        keys = self._engine.private_keys(count)
        self.seconds += time.perf_counter() - began
        return keys

    def signature(self, key: bytes) -> Signature:
        """As the engine does; not timed."""
        return self._engine.signature(key)

    def sign(self, data: bytes, /) -> bytes:
        """As the CA does."""
        began = time.perf_counter()
        signature = self._sign(data)
        self.seconds += time.perf_counter() - began
        return signature
