"""The server's own folder: its database, its keys, its TUF root; one server at a time."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_issuer.errors import RefusedError
from batch_issuer.files import make_directories

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["DataFolder", "opened"]


@dataclass(frozen=True, slots=True)
class DataFolder:
    """The paths in it.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def database(self) -> Path:
        """Devices and certificates."""
        return self.path / "gateway.sqlite"

    @property
    def keys(self) -> Path:
        """Private keys that the server made for the factory."""
        return self.path / "keys"

    @property
    def tuf(self) -> Path:
        """The TUF root document and its keys."""
        return self.path / "tuf"


@contextmanager
def opened(path: Path) -> Iterator[DataFolder]:
    """The folder, made with mode 0700 if it is missing, for this process alone.

    Raises:
        RefusedError: it holds something else, another server has it, or it cannot be made.
    """
    data = DataFolder(path)
    try:
        make_directories(path)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise RefusedError(f"the server's folder {path} cannot be opened: {error.strerror}") from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusedError(f"another server has {path} now", hint="--data names a folder for each server") from None
        if not data.database.exists() and any(path.iterdir()):
            raise RefusedError(
                f"the server's folder {path} must be its own or empty; it holds something else",
                hint="--data names a folder that does not exist yet",
            )
        yield data
    finally:
        os.close(fd)
