"""Faults at any file operation of a run that is made in one process: recorded, killed at the k-th, or made to fail."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import batch_issuer.batch.csrs
import batch_issuer.batch.engines
import batch_issuer.bundles.separate
from batch_issuer.ledger.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

OPERATIONS = ("open", "write", "fsync", "rename", "link", "mkdir", "rmdir", "unlink", "fchmod")
_TWO_PATHS = ("rename", "link")


@dataclass(frozen=True)
class Operation:
    """One call: its name and the path or paths that it is about."""

    name: str
    paths: tuple[str, ...]


class FileOperations:
    """Stands between the program and `os`: counts what changes files below `root`, and acts at the `at`-th call."""

    def __init__(self, root: Path, *, at: int | None = None, act: Callable[[], None] | None = None) -> None:
        self.seen: list[Operation] = []
        self._root = str(root)
        self._at = at
        self._act = act or (lambda: os.kill(os.getpid(), signal.SIGKILL))
        self._fds: dict[int, str] = {}
        self._real: dict[str, Any] = {}

    def install(self) -> None:
        for name in OPERATIONS:
            self._real[name] = getattr(os, name)
            setattr(os, name, self._wrap(name))
        names = vars(batch_issuer.bundles.separate)
        real_sync = names["sync_filesystem"]

        def sync(fd: int) -> None:
            self._note("syncfs", (self._fds.get(fd, ""),))
            real_sync(fd)
            self.done("syncfs", (self._fds.get(fd, ""),))

        names["sync_filesystem"] = sync
        for name in ("reserve", "record", "release"):
            setattr(Ledger, name, self._around(name))

    def done(self, name: str, paths: tuple[str, ...]) -> None:
        """Told of each operation when it has succeeded."""

    def _around(self, name: str) -> Callable[..., Any]:
        """A call of the ledger, whose files SQLite writes out of our sight: something can come before and after it."""
        real = getattr(Ledger, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._note(name, ("ledger",))
            result = real(*args, **kwargs)
            self._note(name, ("ledger",))
            return result

        return call

    def _wrap(self, name: str) -> Callable[..., Any]:
        real = self._real[name]

        def call(*args: Any, **kwargs: Any) -> Any:
            paths = self._paths(name, args, kwargs)
            writes = name != "open" or bool(args[1] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR))
            if writes and any(path.startswith(self._root) for path in paths):
                self._note(name, paths)
            result = real(*args, **kwargs)
            if name == "open":
                self._fds[result] = paths[0]
            if writes and any(path.startswith(self._root) for path in paths):
                self.done(name, paths)
            return result

        return call

    def _paths(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, ...]:
        if name in {"write", "fsync", "fchmod"}:
            return (self._fds.get(args[0], ""),)
        folders = (
            (kwargs.get("src_dir_fd"), kwargs.get("dst_dir_fd")) if name in _TWO_PATHS else (kwargs.get("dir_fd"), None)
        )
        count = 2 if name in _TWO_PATHS else 1
        return tuple(
            os.path.join(self._fds.get(folder, ""), os.fspath(path)) if folder is not None else os.path.abspath(path)
            for path, folder in zip(args[:count], folders, strict=False)
        )

    def _note(self, name: str, paths: tuple[str, ...]) -> None:
        if self._at == len(self.seen):
            self._act()
        self.seen.append(Operation(name, paths))


class InlineSupervisor:
    """Does the tasks in this process, so that one kill is a power cut for parent and workers alike."""

    def __init__(self, start: Callable[[], Callable[[Any], Any]], **_: object) -> None:
        self._start = start
        self.ready = time.monotonic()

    def run(self, tasks: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        do = self._start()
        for task in tasks:
            yield task, do(task)


def run_inline() -> None:
    """From now on, runs of this process have no other processes."""
    for module in (batch_issuer.batch.csrs, batch_issuer.batch.engines):
        vars(module)["Supervisor"] = InlineSupervisor
    vars(batch_issuer.batch.csrs)["prepare_workers"] = lambda _: None
