"""Taking an output folder for one run: fit for it, and no other run's."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from batch_issuer.errors import OutputError, RunFailedError
from batch_issuer.files import make_directory, sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from batch_issuer.output.folder import OutputFolder

__all__ = ["Claim", "check_folder", "working"]

_OPEN_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_WAIT_SECONDS = 120
_POLL_SECONDS = 0.05


def check_folder(folder: OutputFolder, *, resume: bool) -> bool:
    """Whether the folder holds a run that `resume` can go on with; writes nothing.

    Raises:
        OutputError: it is no folder of this user, is not empty, or holds a run and `resume` is off.
    """
    path = folder.path
    try:
        names = set(os.listdir(path))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise OutputError(f"the output folder {path} cannot be used: {error.strerror}") from None
    status = path.stat()
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(status.st_mode)
        raise OutputError(
            f"the output folder {path} can be written by others: its owner is {status.st_uid}, its mode {mode:04o}",
            hint="keys go there: take a folder of your own that nobody else can write",
        )
    if folder.record.name in names:
        if resume:
            return True
        state = "a finished run" if folder.summary.name in names else "an unfinished run"
        raise OutputError(
            f"the output folder {path} holds {state}", hint="--resume goes on with it, or take another --out"
        )
    strangers = sorted(names - {folder.work.name})
    if strangers:
        raise OutputError(
            f"the output folder {path} is not empty: it holds {strangers[0]!r}",
            hint="take a new or empty folder for --out",
        )
    return False


class Claim:
    """One run's hold on its folder; a context manager. The hold ends with the process, however that ends.

    Args:
        folder: where.
        resume: whether a run that is there may be gone on with.
        notify: told, in a sentence, what is waited for.
        shown: what to call it when it is in use; None for its path.

    Attributes:
        resuming: whether the folder holds a run already.

    Raises:
        OutputError: the folder is not fit, or in use.
    """

    def __init__(
        self, folder: OutputFolder, *, resume: bool, notify: Callable[[str], None], shown: str | None = None
    ) -> None:
        check_folder(folder, resume=resume)
        self._folder = folder
        self._notify = notify
        self._made = _make(folder.path)
        self._lock = -1
        try:
            self._lock = _lock(folder, shown or str(folder.path))
            self.resuming = check_folder(folder, resume=resume)
        except BaseException:
            self._release()
            self._remove_made()
            raise

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        self._release()

    def abandon(self) -> None:
        """Leave the folder as it was before: the run was refused and nothing was made."""
        if not self.resuming:
            shutil.rmtree(self._folder.work, ignore_errors=True)
            self._remove_made()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No worker of this folder is at a part meanwhile, be it one of a killed run or on another machine.

        Raises:
            OutputError: one does not end.
        """
        fd = os.open(self._folder.worker_lock, _OPEN_LOCK, 0o600)
        try:
            _await_workers(fd, self._folder.path, self._notify)
            yield
        finally:
            os.close(fd)

    def finish(self) -> None:
        """Remove the unfinished run's own folder: the run is finished.

        Raises:
            OutputError: a worker still makes a part that another has made, and does not end.
        """
        # Moved away first: another run that comes meanwhile finds a finished run, and not half of this folder.
        gone = self._folder.path / f"{self._folder.work.name}.gone"
        with self.alone():
            shutil.rmtree(gone, ignore_errors=True)
            os.rename(self._folder.work, gone)
            shutil.rmtree(gone)
        sync_directory(self._folder.path)

    def _release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _remove_made(self) -> None:
        with suppress(OSError):  # not empty: something else is there by now
            for path in reversed(self._made):
                os.rmdir(path)


@contextmanager
def working(folder: OutputFolder) -> Iterator[None]:
    """Hold the workers' lock, shared, as every worker does from before an attempt's first file to after its last.

    Whoever sweeps attempts holds it alone. So what is swept is of no attempt that can still be committed: whoever made
    it does not hold the lock, and it was let go of either after the attempt was published or by the worker's end.

    Raises:
        RunFailedError: the run is over.
    """
    try:
        fd = os.open(folder.worker_lock, _OPEN_LOCK, 0o600)
    except (FileNotFoundError, NotADirectoryError):
        raise _over(folder) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        # The run that held it alone may have finished and removed the file in between.
        if not _is_at(fd, folder.worker_lock):
            raise _over(folder)
        yield
    finally:
        os.close(fd)


def _over(folder: OutputFolder) -> RunFailedError:
    return RunFailedError(
        f"the run in {folder.path} is over, or is not to be seen from here: there is no {folder.work.name}"
    )


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _make(path: Path) -> list[Path]:
    """Make the folder and what lacks above it; returns what was made, the uppermost first."""
    lacking = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        for folder in reversed(lacking):
            make_directory(folder)
            sync_directory(folder.parent)
    except OSError as error:
        raise OutputError(f"the output folder {path} cannot be made: {error.strerror}") from None
    return lacking[::-1]


def _lock(folder: OutputFolder, shown: str) -> int:
    try:
        with suppress(FileExistsError):
            make_directory(folder.work)
        os.close(os.open(folder.work, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))  # no link
        while True:
            fd = os.open(folder.run_lock, _OPEN_LOCK, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The run that held it before may have removed the file in between: then this lock locks nothing.
                if _is_at(fd, folder.run_lock):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
    except BlockingIOError:
        raise OutputError(
            f"the output folder {shown} is in use by another run",
            hint="wait for it to end, or take another --out",
        ) from None
    except OSError as error:
        raise OutputError(f"the output folder {folder.path} cannot be written: {error.strerror}") from None


def _await_workers(fd: int, path: Path, notify: Callable[[str], None]) -> None:
    """Hold the workers' lock `fd` alone: those at work end with the part that they are at."""
    deadline, told = time.monotonic() + _WAIT_SECONDS, False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise OutputError(
                    f"workers of an earlier run still write to {path}", hint="end them, then try again"
                ) from None
            if not told:
                notify("waiting for the workers of an earlier run to end their parts")
                told = True
            time.sleep(_POLL_SECONDS)
        else:
            return
