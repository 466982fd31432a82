"""Files of lines beside the bundles, such as `SHA256SUMS`: written piece after piece, whatever their length."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from batch_issuer.files import create_file, write_all

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from batch_issuer.files import Octets

__all__ = ["LinesWriter"]


class LinesWriter:
    """Writes lines into a new file, and makes its content durable when it is closed; a context manager.

    Args:
        path: the file, which must not exist.
        mode: its exact mode.

    Raises:
        OSError: from any method, as open(2), write(2) and fsync(2).
    """

    def __init__(self, path: Path, mode: int) -> None:
        self._fd = create_file(path, mode)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        try:
            if failure is None:
                os.fsync(self._fd)
        finally:
            os.close(self._fd)

    def write(self, lines: Octets) -> None:
        """Add whole lines."""
        write_all(self._fd, lines)
