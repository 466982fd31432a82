"""What a person sees while a run goes on: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Never

import click

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Progress"]

_LINE_SECONDS = 5.0


class Progress:
    """An observer of runs that writes to standard error.

    Args:
        quiet: only warnings.
        verb: what happens to devices, such as `issued`.
    """

    def __init__(self, *, quiet: bool = False, verb: str = "issued") -> None:
        self._quiet = quiet
        self._verb = verb
        self._bar: tqdm[Never] | None = None
        self._total = self._done = self._minted = 0
        self._began = self._told = time.monotonic()

    def say(self, sentence: str) -> None:
        """What is going on; not when quiet."""
        if not self._quiet:
            self._write(sentence)

    def warn(self, sentence: str) -> None:
        """What the user should know, quiet or not."""
        self._write(f"warning: {sentence}")

    def begin(self, devices: int) -> None:
        """So many devices to come."""
        self._total, self._began = devices, time.monotonic()
        self._told = self._began
        if not self._quiet and sys.stderr is not None and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=devices, unit=" devices", unit_scale=True, file=sys.stderr, mininterval=0.2)

    def advance(self, devices: int, *, minted: bool = True) -> None:
        """So many more; those not minted now do not count for the rate."""
        self._done += devices
        self._minted += devices if minted else 0
        if self._bar is not None:
            self._bar.initial += 0 if minted else devices
            self._bar.update(devices)
        elif not self._quiet and time.monotonic() - self._told >= _LINE_SECONDS:
            self._told = time.monotonic()
            self._write(self._line())

    def end(self) -> None:
        """No more come."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _line(self) -> str:
        rate = self._minted / max(time.monotonic() - self._began, 1e-9)
        left = f", {(self._total - self._done) / rate:.0f} s left" if rate else ""
        return f"{self._done:,} of {self._total:,} devices {self._verb}, {rate:,.0f}/s{left}"

    def _write(self, text: str) -> None:
        with suppress(OSError):  # nobody reads: no reason to end a run
            if self._bar is not None:
                self._bar.write(text, file=sys.stderr)
            else:
                click.echo(text, err=True)
