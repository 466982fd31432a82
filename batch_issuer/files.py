"""Files that are there whole or not at all: exclusive creation with an exact mode, durable writes, durable renames.

A rename is durable only after an fsync of the file *before* it and of the directory *after* it; without the first,
ext4 shows empty files after a power cut. An fsync that fails is never tried again: Linux may have dropped the pages
that it could not write, and a second fsync would report success (PostgreSQL's "fsyncgate", 2018).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "DIRECTORY_MODE",
    "PRIVATE_MODE",
    "PUBLIC_MODE",
    "Octets",
    "create_file",
    "make_directories",
    "make_directory",
    "replace_file",
    "scratch_folder",
    "sync_directory",
    "sync_filesystem",
    "write_all",
    "write_first",
    "write_new",
]

Octets: TypeAlias = bytes | bytearray | memoryview

PRIVATE_MODE = 0o600
"""Files that hold a device's private key or may hold another secret."""

PUBLIC_MODE = 0o644
"""Certificates, tables and reports without a secret."""

DIRECTORY_MODE = 0o700
"""Folders that hold keys."""

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
"""What link(2) says on file systems without hard links, such as FAT and some that run in user space."""

_AT_FDCWD, _RENAME_NOREPLACE = -100, 1  # linux/fcntl.h, linux/fs.h

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@cache
def _umask() -> int:
    """The mode bits that this process's umask takes away, read once; all bits where it cannot be read."""
    # umask(2) tells the mask only by changing it, for all threads; /proc tells it since Linux 4.7.
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1], 8) for line in lines if line.startswith("Umask:"))
    except (OSError, StopIteration):
        return 0o777


def create_file(path: str | Path, mode: int, *, dir_fd: int | None = None) -> int:
    """Create `path`, which must not exist (no link is followed), and return its descriptor for writing.

    The file never has a wider mode than asked; the umask can narrow only what is then widened to the mode asked.

    Raises:
        OSError: as open(2); FileExistsError when anything, a dangling link too, has the name.
    """
    fd = os.open(path, _CREATE, mode, dir_fd=dir_fd)
    if mode & _umask():
        os.fchmod(fd, mode)
    return fd


def write_all(fd: int, data: Octets) -> None:
    """Write every octet of `data`, however the kernel cuts it.

    Raises:
        OSError: as write(2); ENOSPC when the disk is full.
    """
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def write_new(path: str | Path, chunks: Iterable[Octets], mode: int) -> int:
    """Create `path` with `mode`, write `chunks`, make its content durable; returns the octets written.

    The name itself is durable after `sync_directory` of the parent.

    Raises:
        OSError: as open(2), write(2), fsync(2). What was written is left for the caller's sweep.
    """
    fd = create_file(path, mode)
    try:
        for chunk in chunks:
            write_all(fd, chunk)
        os.fsync(fd)
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


def replace_file(path: Path, chunks: Iterable[Octets], mode: int, *, scratch: Path) -> None:
    """Put `chunks` at `path` so that any observer, after any crash, sees the old file whole or the new one whole.

    Args:
        path: the file to make or replace.
        chunks: its content.
        mode: its mode.
        scratch: a folder on the same file system for the temporary name.

    Raises:
        OSError: as open(2), write(2), fsync(2), rename(2).
    """
    temporary = scratch / f".{path.name}.{os.getpid()}.new"
    temporary.unlink(missing_ok=True)
    write_new(temporary, chunks, mode)
    os.rename(temporary, path)
    sync_directory(path.parent)


def write_first(path: Path, chunks: Iterable[Octets], mode: int, *, temporary: Path) -> bool:
    """Put `chunks` at `path` unless something is there; whether it was put there. Whole and durable, as `replace_file`.

    Of several processes that do this at once, on one machine or on many, exactly one is told True.

    Args:
        path: the file to make.
        chunks: its content.
        mode: its exact mode.
        temporary: a name of this caller's own on the same file system, that nothing has. It is gone on return, but
            can be left by a kill.

    Raises:
        OSError: as open(2), write(2), fsync(2), link(2); EOPNOTSUPP when the file system has no way to do it.
    """
    write_new(temporary, chunks, mode)
    first = _link(temporary, path)
    sync_directory(path.parent)
    temporary.unlink(missing_ok=True)
    return first


def _link(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        # A network file system may ask its server twice when an answer is lost: then who is there is we ourselves.
        return os.path.samestat(os.lstat(temporary), os.lstat(path))
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _rename_unless_there(temporary, path)
    return True


def _rename_unless_there(source: Path, target: Path) -> bool:
    """What link(2) is not needed for where the kernel itself sees to it; network file systems have only that."""
    names = (os.fsencode(source), os.fsencode(target))
    if ctypes.CDLL(None, use_errno=True).renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE) == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.EEXIST:
        return False
    if number in {errno.EINVAL, errno.ENOSYS}:
        number, reason = errno.EOPNOTSUPP, "the file system can neither link nor rename without replacing"
        raise OSError(number, reason, str(target))
    raise OSError(number, os.strerror(number), str(target))


def make_directory(path: str | Path, mode: int = DIRECTORY_MODE, *, dir_fd: int | None = None) -> None:
    """Make one folder, which must not exist, with exactly `mode` under any umask that leaves the owner's bits.

    Raises:
        OSError: as mkdir(2).
    """
    os.mkdir(path, mode, dir_fd=dir_fd)


def make_directories(path: Path) -> list[Path]:
    """Make a folder and what lacks above it, each with `DIRECTORY_MODE`; returns what was made, the uppermost first.

    Raises:
        OSError: as mkdir(2); what was made before is left.
    """
    lacking = [folder for folder in (path, *path.parents) if not folder.exists()][::-1]
    for folder in lacking:
        make_directory(folder)
    return lacking


@contextmanager
def scratch_folder(path: Path) -> Iterator[None]:
    """A folder for what is in the making, this process's alone; emptied before, and gone afterwards.

    Raises:
        BlockingIOError: another process has it.
        OSError: as mkdir(2), open(2), rmdir(2).
    """
    with suppress(FileExistsError):
        make_directory(path)
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for left in path.iterdir():  # of a process that was killed
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        try:
            yield
        finally:
            shutil.rmtree(path)
    finally:
        os.close(lock)


def sync_directory(path: str | Path) -> None:
    """Make the names in a folder durable.

    Raises:
        OSError: as open(2), fsync(2).
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_filesystem(fd: int) -> None:
    """Make everything written to the file system of `fd` durable: one syncfs(2) for thousands of files.

    Args:
        fd: a descriptor that was opened *before* the writes: Linux (5.8 and later) reports to it every write that
            failed since it was opened, and none from before.

    Raises:
        OSError: as syncfs(2).
    """
    if ctypes.CDLL(None, use_errno=True).syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
