"""What the formats share that give each device an entry of its own in the bundles folder: a folder, or a file."""

from __future__ import annotations

import errno
import os
import stat
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING

from batch_issuer.errors import BundleError
from batch_issuer.files import make_directory, sync_filesystem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from batch_issuer.bundles.contents import PartBundles
    from batch_issuer.bundles.format import Staged

__all__ = ["OPEN_DIRECTORY", "SeparateFormat", "file_problems", "read_file"]

OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LARGEST_FILE = 1 << 20


class SeparateFormat(ABC):
    """A part is staged as a folder of entries, one per device; each is renamed into the bundles folder by itself."""

    name: str
    suffix: str
    """What follows the UUID in an entry's name."""

    kind: int
    """What an entry is, by the file type bits of stat(2)."""

    @abstractmethod
    def write(self, part: PartBundles, folder: int) -> Staged:
        """Make the part's entries below `folder`, a descriptor; nothing needs to be durable yet."""

    def stage(self, part: PartBundles, staging: Path, part_name: str) -> Staged:
        """Make the part's entries below `staging/<part name>/`; one syncfs makes all of them durable."""
        make_directory(staging / part_name)
        folder = os.open(staging / part_name, OPEN_DIRECTORY)
        try:
            staged = self.write(part, folder)
            sync_filesystem(folder)
        finally:
            os.close(folder)
        return staged

    def published(self, bundles: Path, part_name: str, device_uuids: Sequence[bytes]) -> str | None:
        """The first of the part's entries whose name anything has."""
        names = self.locations(part_name, device_uuids)
        return next((name for name in names if os.path.lexists(bundles / name)), None)

    def publish(self, staging: Path, bundles: Path, part_name: str, device_uuids: Sequence[bytes]) -> None:
        """Rename each device's entry into place; nothing that has the name there is followed or replaced."""
        names = self.locations(part_name, device_uuids)
        target = os.open(bundles, OPEN_DIRECTORY)
        try:
            try:
                source = os.open(staging / part_name, OPEN_DIRECTORY)
            except FileNotFoundError:
                self._expect_published(target, names)
                return
            try:
                for name in names:
                    self._rename(name, source, target)
            finally:
                os.close(source)
        finally:
            os.close(target)
        with suppress(FileNotFoundError):  # another process published the part, too
            os.rmdir(staging / part_name)

    def locations(self, part_name: str, device_uuids: Sequence[bytes]) -> list[str]:  # noqa: ARG002 - the format's seam
        """Each device's entry."""
        return [uuid.decode() + self.suffix for uuid in device_uuids]

    def _rename(self, name: str, source: int, target: int) -> None:
        try:
            if self.kind != stat.S_IFDIR:
                _refuse_to_replace(name, source, target)
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        except FileNotFoundError:
            self._expect_published(target, [name])
        except OSError as error:
            if error.errno not in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}:
                raise
            raise BundleError(
                f"bundles/{name} is taken by something that this run did not put there: {error.strerror}",
                hint="move it away and resume; nothing of it was followed or changed",
            ) from None

    def _expect_published(self, target: int, names: Sequence[str]) -> None:
        for name in names:
            status = _status(name, target)
            if status is None or stat.S_IFMT(status.st_mode) != self.kind:
                raise BundleError(f"the bundle of {name} was committed, and is neither staged nor published")


def _refuse_to_replace(name: str, source: int, target: int) -> None:
    """A folder is never renamed over what is not empty; a file would be, so what is there is looked at first."""
    if _status(name, target) is not None and _status(name, source) is not None:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def _status(name: str, folder: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def read_file(name: str | Path, folder: int | None = None) -> tuple[bytes, os.stat_result]:
    """A bundle's file and its status; no link is followed.

    Args:
        name: the file.
        folder: the descriptor of the folder that `name` is relative to; None for a path.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger than any of a bundle.
    """
    fd = os.open(name, _OPEN_FILE, dir_fd=folder)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "it is of another kind")
        if status.st_size > _LARGEST_FILE:
            raise OSError(0, "it is larger than any bundle's file")
        return os.read(fd, status.st_size), status
    finally:
        os.close(fd)


def file_problems(place: str, status: os.stat_result, mode: int, above: os.stat_result) -> Iterator[str]:
    """What is wrong with how a file is stored, as sentences.

    Args:
        place: what to call it.
        status: the file's.
        mode: what its mode must be.
        above: the status of its folder.
    """
    found = stat.S_IMODE(status.st_mode)
    if found != mode:
        yield f"the mode of {place} is {found:04o}, expected {mode:04o}"
    if status.st_nlink != 1:
        yield f"{place} has {status.st_nlink} names in the file system, expected 1"
    if status.st_uid != above.st_uid:
        yield f"the owner of {place} is {status.st_uid}, that of its folder {above.st_uid}"
