"""Regular files, opened without following a link: what is of another kind is found where kinds are checked."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from hashlib import file_digest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["file_octets", "file_sha256", "opened"]

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def opened(path: Path, most: int | None = None) -> Iterator[int | None]:
    """A regular file's descriptor; None if it is none, or cannot be opened.

    Args:
        path: the file.
        most: octets that it can have if it is what it should be: a hole of a terabyte is not read. None for any.
    """
    try:
        fd = os.open(path, _OPEN)
    except OSError:
        yield None
        return
    try:
        status = os.fstat(fd)
        fits = stat.S_ISREG(status.st_mode) and (most is None or status.st_size <= most)
        yield fd if fits else None
    finally:
        os.close(fd)


def file_sha256(path: Path, most: int | None = None) -> str | None:
    """The digest of a file's octets, hex; None as `opened`."""
    with opened(path, most) as fd:
        if fd is None:
            return None
        with os.fdopen(fd, "rb", buffering=0, closefd=False) as file:
            return file_digest(file, "sha256").hexdigest()


def file_octets(path: Path, most: int) -> bytes | None:
    """A file's octets; None as `opened`."""
    with opened(path, most) as fd:
        return None if fd is None else os.read(fd, most)
