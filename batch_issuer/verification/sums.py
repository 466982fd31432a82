"""Checks `SHA256SUMS`: a line for every file of the run, with the digest of what is there, and no other line.

The lines of the bundles stand in the order of the output manifest, so each task's lines are one stretch of the file.
The parent finds where a stretch ends, and reads no line of it; the worker reads its own.
"""

from __future__ import annotations

import mmap
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from batch_issuer.output.folder import BUNDLES
from batch_issuer.verification.finding import Fault
from batch_issuer.verification.readable import shown_text
from batch_issuer.verification.regular import file_sha256, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from batch_issuer.output.folder import OutputFolder
    from batch_issuer.output.record import RunRecord

__all__ = ["SumsWalk", "open_sums", "span_faults"]

_SUMS = "SHA256SUMS"
# What `sha256sum` writes: the digest in lower case, two spaces, the path; a path that needs no escapes (GNU coreutils).
_LINE = re.compile(r"([0-9a-f]{64})  ([^\\\r\n]+)")
_PATH_BEGINS = 66
_LONGEST_LINE = 160
"""Octets of a line about a bundle, at most: 64 of the digest, and `bundles/part-00000.<attempt>/<uuid>/client.pem`."""

_FILES_EACH = 4
"""Files of a device that has a folder, at most."""

_SLACK = 1 << 16
"""Octets of lines that do not belong there, and yet do not hide those that do."""


@contextmanager
def open_sums(path: Path) -> Iterator[SumsWalk | None]:
    """SHA256SUMS, to be gone through; None if it is not there or no regular file, which is found elsewhere."""
    with opened(path) as fd:
        if fd is None:
            yield None
        elif not os.fstat(fd).st_size:
            yield SumsWalk(b"")
        else:
            with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as text:
                yield SumsWalk(text)


class SumsWalk:
    """Goes through SHA256SUMS once, beside the output manifest.

    Args:
        text: the file's octets.
    """

    def __init__(self, text: mmap.mmap | bytes) -> None:
        self._at = 0
        self._text = text

    def span(self, names: Callable[[], Iterable[str]], last: str, count: int) -> tuple[int, int]:
        """Where the lines of the next bundles begin and end; what does not belong there is in it too.

        Args:
            names: gives the bundles' names below the bundles folder; asked only if the last one has no line.
            last: the last of them.
            count: how many there are.
        """
        start, most = self._at, count * _FILES_EACH * _LONGEST_LINE + _SLACK
        window = min(start + most, len(self._text))
        found = self._text.rfind(f"  {BUNDLES}/{last}".encode(errors="surrogateescape"), start, window)
        if found >= 0:
            end = self._text.find(b"\n", found)
            self._at = len(self._text) if end < 0 else end + 1
        else:
            self._at = start + _known_octets(self._text[start:window], set(names()))
        return start, self._at

    def rest(self, folder: OutputFolder, record: RunRecord) -> Iterator[tuple[str, Fault]]:
        """What is wrong with the lines after all bundles', which are about the files beside them, and with those files.

        Gives each fault with the place that it is about.
        """
        beside = (folder.manifest(record.manifest_format), folder.rejects, folder.report, folder.record, folder.summary)
        found = {path.name: file_sha256(path) for path in beside if os.path.lexists(path)}
        yield from _line_faults(_lines(self._text, self._at), found)


def span_faults(path: Path, span: tuple[int, int], found: dict[str, str | None]) -> Iterator[tuple[str, Fault]]:
    """What is wrong with a stretch of lines, each fault with the place that it is about.

    Args:
        path: SHA256SUMS.
        span: where the stretch begins and ends.
        found: every file that there is of the stretch's bundles, by its place below the output folder, with the digest
            of what it holds; None for what could not be read.
    """
    with opened(path) as fd:
        text = b"" if fd is None else os.pread(fd, span[1] - span[0], span[0])
    yield from _line_faults(_lines(text, 0), found)


def _line_faults(lines: Iterable[bytes], found: dict[str, str | None]) -> Iterator[tuple[str, Fault]]:
    seen = set()
    for line in lines:
        match = _LINE.fullmatch(line.decode(errors="backslashreplace"))
        if match is None:
            shown = shown_text(line.decode(errors="backslashreplace"))
            yield _SUMS, Fault("sums-line", f"{shown} is no line of a digest, two spaces and a path")
            continue
        said, place = match.groups()
        if place in seen:
            yield place, Fault("sums-twice", f"{_SUMS} has more than one line for it")
        elif place not in found:
            yield place, Fault("sums-no-file", f"{_SUMS} has a line for it, and no such file is there in that place")
        elif found[place] != said:
            yield place, Fault("sums-digest", f"its SHA-256 is {found[place] or 'unknown'}, {_SUMS} says {said}")
        seen.add(place)
    for place in found:
        if place not in seen:
            yield place, Fault("sums-no-line", f"{_SUMS} has no line for it in the place that it has in the manifest")


def _known_octets(text: bytes, names: set[str]) -> int:
    """Up to the end of the last line in `text` that is about one of the bundles `names`; 0 if none is."""
    known = end = 0
    for line in _lines(text, 0):
        end += len(line) + 1
        place = line[_PATH_BEGINS:].decode(errors="surrogateescape").split("/")
        if len(place) > 1 and place[0] == BUNDLES and place[1] in names:
            known = end
    return known


def _lines(text: mmap.mmap | bytes, start: int) -> Iterator[bytes]:
    while start < len(text):
        end = text.find(b"\n", start)
        end = len(text) if end < 0 else end
        yield text[start:end]
        start = end + 1
