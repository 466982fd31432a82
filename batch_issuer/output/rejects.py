"""`rejects.csv`: one row per finding about the manifest."""

from __future__ import annotations

import csv
import io
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING

from batch_issuer.output.spreadsheet import safe_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_issuer.devices import Rejections

__all__ = ["RejectsCsv"]

_AT_ONCE = 5_000


class RejectsCsv:
    """The file's octets, some thousand findings at a time: row, column, value (shortened), code, message.

    Args:
        rejections: the findings.
        spreadsheet_safe: whether cells that a spreadsheet would run are neutralised.

    Attributes:
        digest: SHA-256 of the octets, hex, once they were gone through.
    """

    def __init__(self, rejections: Rejections, *, spreadsheet_safe: bool) -> None:
        self.digest = ""
        self._rejections = rejections
        self._spreadsheet_safe = spreadsheet_safe

    def __iter__(self) -> Iterator[bytes]:
        digest = sha256()
        for octets in self._pieces():
            digest.update(octets)
            yield octets
        self.digest = digest.hexdigest()

    def _pieces(self) -> Iterator[bytes]:
        yield b"row,column,value,code,message\n"
        rejections = iter(self._rejections)
        while some := list(islice(rejections, _AT_ONCE)):
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            for found in some:
                cells = (found.column, found.value, found.code, found.message)
                writer.writerow((found.row, *(safe_text(cell) if self._spreadsheet_safe else cell for cell in cells)))
            yield text.getvalue().encode()
