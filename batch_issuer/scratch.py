"""What memory is too small for goes into files without a name: nobody else opens them, no kill leaves one behind."""

from __future__ import annotations

import os
import resource
import tempfile
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from batch_issuer.errors import OutputError
from batch_issuer.files import PRIVATE_MODE, write_all

if TYPE_CHECKING:
    from batch_issuer.files import Octets

__all__ = ["DEFAULT_MEMORY", "Scratch", "ScratchFile", "memory_of_this_process"]

DEFAULT_MEMORY = 1_000_000_000
"""Octets that a plan takes for its rows at most, unless it is told otherwise."""

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_OPEN = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME = "spill"


@dataclass(frozen=True, slots=True)
class Scratch:
    """How much memory there is for rows, and where those go that it does not hold.

    Attributes:
        memory: octets.
        folder: where files are made, which have no name after that; None for the system's folder of temporary files.
    """

    memory: int = DEFAULT_MEMORY
    folder: Path | None = None

    def open(self) -> ScratchFile:
        """A new private file, which ends with this process, or before.

        Raises:
            OSError: as open(2).
            OutputError: the system has no folder for temporary files.
        """
        if self.folder is None:
            try:
                path = Path(tempfile.mkdtemp(), _NAME)
            except OSError as error:
                raise OutputError(
                    f"there is no folder for temporary files: {error.strerror}", hint="name one by TMPDIR"
                ) from None
        else:
            path = self.folder / _NAME
            path.unlink(missing_ok=True)  # of a plan that was killed between these two lines
        try:
            return ScratchFile(os.open(path, _OPEN, PRIVATE_MODE))
        finally:
            path.unlink(missing_ok=True)
            if self.folder is None:
                path.parent.rmdir()


class ScratchFile:
    """A file without a name, gone with the last reference to it.

    Args:
        fd: its descriptor, which it takes over.

    Attributes:
        size: octets that are in it.
    """

    def __init__(self, fd: int) -> None:
        self.size = 0
        self._fd = fd
        weakref.finalize(self, os.close, fd)

    def append(self, octets: Octets) -> None:
        """Write at its end.

        Raises:
            OSError: as write(2).
        """
        write_all(self._fd, octets)
        self.size += len(octets)

    def read(self, offset: int, octets: int) -> bytes:
        """So many octets from an offset on.

        Raises:
            OSError: as pread(2), or there are not so many.
        """
        pieces, missing = [], octets
        while missing:
            piece = os.pread(self._fd, missing, offset + octets - missing)
            if not piece:
                raise OSError(f"a temporary file ends {missing} octets too early")
            pieces.append(piece)
            missing -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def memory_of_this_process() -> int:
    """The octets of memory that this process may use: the machine's, or fewer if a limit says so."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if address_space != resource.RLIM_INFINITY:
        limits.append(address_space)
    for path in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # there is none, or it is "max"
            limits.append(int(Path(path).read_text()))
    return min(limits)
