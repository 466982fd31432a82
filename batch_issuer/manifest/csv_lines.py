"""A text file in blocks that end with a line, so that each can be read by whoever reads it best; and their lines."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from batch_issuer.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader

__all__ = ["Lines", "cut_blocks"]

_BLOCK = 2 << 20
_LONGEST_LINE = 8 << 20


def cut_blocks(file: BufferedReader) -> Iterator[bytes]:
    """A file's octets, cut after the end of a line, LF, CR or both.

    Raises:
        ManifestError: a line is too long to be one.
    """
    waiting = b""
    while octets := file.read(_BLOCK):
        waiting += octets
        # After a CR only if it is no CR LF, whose LF may be still to come.
        end = waiting.rfind(b"\n") + 1 or waiting.rfind(b"\r", 0, -1) + 1
        if end:
            yield waiting[:end]
            waiting = waiting[end:]
        else:
            _check_length(_text(waiting))
    if waiting:
        yield waiting


class Lines:
    """The lines of a block, with their ends; and, if they are asked for more, those of the blocks after it.

    Args:
        block: octets that end with a line. Those that are not UTF-8 become lone surrogates, which no valid UTF-8 gives,
            so that their rows can be named.
        blocks: what comes after it; gone through as far as lines are asked for.

    Attributes:
        at_end: whether the last line that was given ends a block.

    Raises:
        ManifestError: a line is too long to be one.
    """

    def __init__(self, block: bytes, blocks: Iterator[bytes]) -> None:
        self.at_end = not block
        self._blocks = blocks
        self._lines = self._all(block)
        self._text = io.StringIO()

    def __iter__(self) -> Iterator[str]:
        return self._lines

    def rest(self) -> bytes:
        """The octets of the block that no line was given of yet."""
        return self._text.read().encode("utf-8", "surrogateescape")

    def _all(self, block: bytes) -> Iterator[str]:
        octets: bytes | None = block
        while octets:
            text = _text(octets)
            self._text = io.StringIO(text, newline="")
            size = len(text)
            for line in self._text:
                _check_length(line)
                self.at_end = self._text.tell() == size
                yield line
            octets = next(self._blocks, None)


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")


def _check_length(line: str) -> None:
    if len(line) >= _LONGEST_LINE:
        raise ManifestError(f"the manifest has a line of more than {_LONGEST_LINE} characters")
