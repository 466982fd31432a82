"""`rejects.csv`: one row per finding about the manifest."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_issuer.devices import Rejection

__all__ = ["rejects_csv"]

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def rejects_csv(rejections: Sequence[Rejection], *, spreadsheet_safe: bool) -> bytes:
    """The file's octets: row, column, value (shortened), code, message."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("row", "column", "value", "code", "message"))
    for found in rejections:
        value = found.value
        if spreadsheet_safe and value.startswith(_FORMULA_STARTS):
            value = f"'{value}"
        writer.writerow((found.row, found.column, value, found.code, found.message))
    return text.getvalue().encode()
