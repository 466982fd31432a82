"""Figures as a person reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["counted", "listed", "size"]

_STEP = 1000
_LISTED = 5
_LONGEST = 100


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 part, 2 parts."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def listed(items: Iterable[str]) -> str:
    """The first five, each of 100 characters at most, and how many more there are; what is found may be anybody's."""
    found = list(items)
    shown = ", ".join(item[:_LONGEST] for item in found[:_LISTED]) or "none"
    return shown + (f" and {len(found) - _LISTED} more" if len(found) > _LISTED else "")


def size(octets: int) -> str:
    """A size in SI units."""
    value = float(octets)
    for unit in ("B", "kB", "MB", "GB"):
        if value < _STEP:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= _STEP
    return f"{value:,.1f} TB"
