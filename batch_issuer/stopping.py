"""SIGINT and SIGTERM as a request, which a run heeds after its current parts."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from batch_issuer.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["StopRequest"]


class StopRequest:
    """SIGINT or SIGTERM as a request: the first asks to stop after what is being done, the second stops at once.

    A context manager, for the main thread; `notify` is called once, with a sentence for the user.
    """

    def __init__(self, notify: Callable[[str], None]) -> None:
        self.requested = False
        self._signal, self._announced = "", False
        self._notify = notify
        self._previous: dict[int, Any] = {}
        self._read, self._write = -1, -1

    def __enter__(self) -> StopRequest:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def fileno(self) -> int:
        """Readable once a stop is requested."""
        return self._read

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise Interrupted("interrupted twice: stopped at once")
        self.requested = True
        self._signal = signal.Signals(number).name
        os.write(self._write, b"!")

    def announce(self) -> None:
        """Tell the user that a stop was requested, once; not from within the signal's handler, which may not write."""
        if self.requested and not self._announced:
            self._announced = True
            self._notify(f"{self._signal}: stopping after the current parts; once more stops at once")
