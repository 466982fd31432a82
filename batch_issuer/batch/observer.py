"""Who watches a run: a person's terminal, a test, nobody."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Observer"]


class Observer(Protocol):
    """Who watches a run."""

    def say(self, sentence: str) -> None:
        """What is going on."""

    def warn(self, sentence: str) -> None:
        """What the user should know, and perhaps change."""

    def begin(self, devices: int) -> None:
        """So many devices will be issued or found issued."""

    def advance(self, devices: int, *, minted: bool) -> None:
        """So many more are there; `minted` now, or before."""

    def end(self) -> None:
        """No more come."""
