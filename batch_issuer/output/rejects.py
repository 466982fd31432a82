"""`rejects.csv`: one row per finding about the manifest."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from batch_issuer.output.spreadsheet import safe_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_issuer.devices import Rejection

__all__ = ["rejects_csv"]


def rejects_csv(rejections: Sequence[Rejection], *, spreadsheet_safe: bool) -> bytes:
    """The file's octets: row, column, value (shortened), code, message."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("row", "column", "value", "code", "message"))
    for found in rejections:
        cells = (found.column, found.value, found.code, found.message)
        writer.writerow((found.row, *(safe_text(cell) if spreadsheet_safe else cell for cell in cells)))
    return text.getvalue().encode()
