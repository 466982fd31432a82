"""A run's output in a folder: staged beside it, committed by a link, published by renames."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_issuer.batch.attempts import close_attempt, commit_name, drop_attempt, sweep_attempts
from batch_issuer.batch.claim import Claim, check_folder, working
from batch_issuer.errors import BundleError, RunFailedError
from batch_issuer.files import PRIVATE_MODE, PUBLIC_MODE, make_directory, replace_file, sync_directory, write_first
from batch_issuer.output.folder import BUNDLES, OutputFolder, part_name
from batch_issuer.output.record import read_record
from batch_issuer.output.rows import read_commit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from batch_issuer.bundles.contents import PartBundles
    from batch_issuer.bundles.format import BundleFormat, Staged
    from batch_issuer.output.record import RunRecord
    from batch_issuer.output.rows import CommitRecord

__all__ = ["FolderHome"]


@dataclass(frozen=True, slots=True)
class FolderHome:
    """A `Home` (see there for every method) in a folder.

    Attributes:
        folder: the folder.
    """

    folder: OutputFolder

    @property
    def named_by_attempt(self) -> bool:
        """No: what is published is renamed."""
        return False

    @property
    def address(self) -> str:
        """The absolute path."""
        return str(self.folder.path.absolute())

    def shown(self, name: str = "") -> str:
        """The path."""
        return str(self.folder.path / name)

    def check(self, *, resume: bool) -> bool:
        """Whether a run is there."""
        return check_folder(self.folder, resume=resume)

    def hold(self, *, resume: bool, notify: Callable[[str], None]) -> Claim:
        """Lock it."""
        return Claim(self.folder, resume=resume, notify=notify)

    def parts(self, stored: BundleFormat) -> FolderParts:
        """The worker's side."""
        return FolderParts(self.folder, stored)

    def held_parts(self, parts: int, workers: int) -> int:  # noqa: ARG002 - the home's seam
        """All of them."""
        return parts

    def read_record(self) -> RunRecord:
        """Of `run.json`."""
        return read_record(self.folder.record)

    def write_record(self, record: RunRecord) -> None:
        """The last thing that the plan writes."""
        self.put(self.folder.record.name, record.to_json())

    def is_finished(self) -> bool:
        """Whether `summary.json` is there."""
        return self.folder.summary.exists()

    def prepare(self) -> None:
        """Make the folders of parts, durable."""
        for place in (self.folder.staging, self.folder.commits, self.folder.bundles):
            _make_once(place)
        sync_directory(self.folder.work)
        sync_directory(self.folder.path)

    def sweep(self) -> None:
        """Remove attempts that lost, or were killed."""
        sweep_attempts(self.folder)

    def read_commit(self, index: int) -> CommitRecord:
        """Which a worker of this run has read or written."""
        return read_commit(self.folder.commit(index), checked=True)

    def settle(self) -> None:
        """One fsync: the renames."""
        sync_directory(self.folder.bundles)

    def place(self, path: Path, name: str) -> None:
        """Rename it."""
        os.rename(path, self.folder.path / name)
        sync_directory(self.folder.path)

    def put(self, name: str, content: bytes) -> None:
        """Write, sync, rename."""
        mode = PRIVATE_MODE if "/" in name else PUBLIC_MODE
        replace_file(self.folder.path / name, [content], mode, scratch=self.folder.work)

    def get(self, name: str) -> bytes | None:
        """Read it."""
        try:
            return (self.folder.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def keep_only(self, attempts: set[str]) -> None:
        """Nothing of an attempt that lost is ever published here."""


class FolderParts:
    """A `PartHome` (see there for every method) in a folder."""

    def __init__(self, folder: OutputFolder, stored: BundleFormat) -> None:
        self._folder = folder
        self._format = stored

    def working(self) -> AbstractContextManager[None]:
        """The workers' lock."""
        return working(self._folder)

    def read_commit(self, index: int) -> CommitRecord | None:
        """From `.run/commits`."""
        commit = self._folder.commit(index)
        return read_commit(commit) if commit.exists() else None

    def is_published(self, index: int, device_uuids: Sequence[bytes]) -> bool:
        """By the names in `bundles/`."""
        taken = self._format.published(self._folder.bundles, part_name(index), device_uuids)
        if taken is not None and not self._folder.commit(index).exists():
            raise BundleError(
                f"{BUNDLES}/{taken} is in place, and there is no commit record of its part: it is not issued again",
                hint="restore the commit records in .run/commits, or move the bundles away",
            )
        return taken is not None

    def stage(self, bundles: PartBundles, index: int, attempt: str) -> Staged:
        """In a folder that nobody else writes to."""
        own = self._folder.attempt(index, attempt)
        make_directory(own)
        staged = self._format.stage(bundles, own, part_name(index))
        sync_directory(self._folder.staging)
        return staged

    def locations(self, index: int, attempt: str, device_uuids: Sequence[bytes]) -> list[str]:  # noqa: ARG002 - the seam
        """The format's."""
        return self._format.locations(part_name(index), device_uuids)

    def commit(self, index: int, attempt: str, record: memoryview) -> bool:
        """By a link, which fails if the name is taken."""
        own = self._folder.attempt(index, attempt)
        if write_first(self._folder.commit(index), [record], PRIVATE_MODE, temporary=commit_name(own)):
            return True
        drop_attempt(own)
        return False

    def publish(self, index: int, attempt: str, device_uuids: Sequence[bytes], *, made_now: bool) -> None:
        """Rename what is staged."""
        if not made_now:
            sync_directory(self._folder.commits)  # whoever made it may have died before its name was durable
        own = self._folder.attempt(index, attempt)
        self._format.publish(own, self._folder.bundles, part_name(index), device_uuids)
        close_attempt(own)


def _make_once(path: Path) -> None:
    try:
        make_directory(path)
    except FileExistsError:
        if path.is_symlink() or not path.is_dir():
            raise RunFailedError(f"{path} is not a folder of this run", hint="move it away, then resume") from None
