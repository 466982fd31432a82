"""`SHA256SUMS` as a file: written piece after piece, whatever its length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_issuer.files import PUBLIC_MODE
from batch_issuer.output.lines import LinesWriter
from batch_issuer.sums import sum_line

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SumsWriter"]


class SumsWriter(LinesWriter):
    """Writes `SHA256SUMS` into a new file, and makes its content durable when it is closed.

    The lines stand in the order in which they come, which needs no sorting of millions of names: the bundles' in the
    manifest's order, then those of the files beside them by name.

    Args:
        path: the file, which must not exist.

    Raises:
        OSError: from any method, as open(2), write(2) and fsync(2).
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, PUBLIC_MODE)

    def add(self, path: str, digest: str) -> None:
        """Add the line of one file.

        Args:
            path: its place below the output folder.
            digest: SHA-256 of its octets, hex.
        """
        self.write(sum_line(digest, path).encode())
