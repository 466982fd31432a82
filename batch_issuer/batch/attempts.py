"""Attempts at a part: each stages into a folder of its own, and one of them is committed.

A part can be made twice at once: by a cluster that runs a task again, or by a worker that outlived its run. So nothing
of another attempt is touched while workers are at work. What killed attempts left is swept when a run is resumed.
"""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING

from batch_issuer.output.rows import read_commit

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.output.folder import OutputFolder

__all__ = ["close_attempt", "commit_name", "drop_attempt", "sweep_attempts"]


def commit_name(attempt: Path) -> Path:
    """Where the attempt in this folder writes its commit record before it is one."""
    return attempt / "commit.arrow"


def drop_attempt(attempt: Path) -> None:
    """Remove an attempt that lost, by the worker that made it."""
    shutil.rmtree(attempt)


def close_attempt(attempt: Path) -> None:
    """Remove the folder of an attempt that is published; done again, or twice at once, this does nothing.

    Raises:
        OSError: as rmdir(2).
    """
    commit_name(attempt).unlink(missing_ok=True)  # left by a kill between link and unlink
    try:
        os.rmdir(attempt)
    except OSError as error:  # a network file system may hide a name in it that is still open: it goes with `.run/`
        if error.errno not in {errno.ENOENT, errno.ENOTEMPTY}:
            raise


def sweep_attempts(folder: OutputFolder) -> None:
    """Remove every attempt that is not committed; for who holds the workers' lock alone (see `claim.working`).

    Raises:
        OutputError: a commit record is damaged.
        OSError: as unlink(2).
    """
    for left in folder.staging.iterdir():
        if _is_committed(folder, left):
            continue
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()


def _is_committed(folder: OutputFolder, attempt: Path) -> bool:
    part, _, name = attempt.name.partition(".")
    commit = folder.commits / f"{part}.arrow"
    return commit.is_file() and read_commit(commit, checked=True).attempt == name
