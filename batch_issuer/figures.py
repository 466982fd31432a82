"""Figures as a person reads them."""

from __future__ import annotations

__all__ = ["counted", "size"]

_STEP = 1000


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 part, 2 parts."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def size(octets: int) -> str:
    """A size in SI units."""
    value = float(octets)
    for unit in ("B", "kB", "MB", "GB"):
        if value < _STEP:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= _STEP
    return f"{value:,.1f} TB"
