"""CSV cells that a spreadsheet would run as a formula, made harmless on request, and so that it can be undone."""

from __future__ import annotations

import re

__all__ = ["FORMULA", "safe_text"]

FORMULA = "^('*[=+\\-@\t\r])"
"""What a spreadsheet runs (CWE-1236); and what looks as if it was made harmless before: that gets one more apostrophe,
so that taking one away always gives the original."""


def safe_text(text: str) -> str:
    """The text, with an apostrophe before it if a spreadsheet would run it."""
    return re.sub(FORMULA, r"'\1", text)
