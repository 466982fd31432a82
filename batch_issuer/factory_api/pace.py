"""How fast the API is asked: so many requests a second at most, slower when it says so, and none after a stop."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

__all__ = ["Pace"]

_CATCH_UP_SECONDS = 0.1
"""How late a turn may be and still be made up for: timers are late by a millisecond, which counts at high rates."""


class Pace:
    """One pace for all who ask.

    Args:
        rate: requests per second, more than 0.
    """

    def __init__(self, rate: float) -> None:
        self._interval = 1 / rate
        self._next = self.now()
        self._turn = asyncio.Lock()
        self._stopped = asyncio.Event()

    @property
    def stopped(self) -> bool:
        """Whether nobody is to ask any more."""
        return self._stopped.is_set()

    def now(self) -> float:
        """The seconds of a clock that only goes forward."""
        return time.monotonic()

    async def turn(self) -> bool:
        """Wait until the next request may be sent; False when it may not any more.

        Over any time T at most rate * (T + 0.1 s) + 1 requests are sent.
        """
        async with self._turn:
            while (left := self._next - self.now()) > 0:
                if not await self.rest(left):
                    return False
            self._next = max(self._next, self.now() - _CATCH_UP_SECONDS) + self._interval
            return not self.stopped

    async def rest(self, seconds: float) -> bool:
        """Wait so long, or until a stop; False after a stop."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)
        return not self.stopped

    def pause(self, seconds: float) -> None:
        """Nobody asks for so long: the API is busy."""
        self._next = max(self._next, self.now() + seconds)

    def stop(self) -> None:
        """Nobody asks any more; who waits is told at once."""
        self._stopped.set()
