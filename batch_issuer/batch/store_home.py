"""A run's output in an object store, which has no rename.

Bundles are put under the name of the attempt that made them, and the commit record, which only the first attempt can
put, names it.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from batch_issuer.batch.claim import working
from batch_issuer.batch.store_hold import StoreHold, check_prefix, owner_of
from batch_issuer.bundles.format import Staged
from batch_issuer.errors import BundleError, OutputError, RunFailedError
from batch_issuer.files import make_directory
from batch_issuer.output.folder import BUNDLES, OutputFolder, part_name
from batch_issuer.output.record import decode_record
from batch_issuer.output.rows import decode_commit
from batch_issuer.stores.lease import check_owner
from batch_issuer.stores.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from batch_issuer.bundles.contents import PartBundles
    from batch_issuer.bundles.format import BundleFormat
    from batch_issuer.output.record import RunRecord
    from batch_issuer.output.rows import CommitRecord
    from batch_issuer.stores.address import StoreAddress
    from batch_issuer.stores.store import Store

__all__ = ["StoreHome"]


@dataclass(frozen=True, slots=True)
class StoreHome:
    """A `Home` (see there for every method) below a prefix.

    Attributes:
        prefix: the address of all of it.
        folder: the scratch folder on this machine.
    """

    prefix: StoreAddress
    folder: OutputFolder

    @property
    def named_by_attempt(self) -> bool:
        """Yes."""
        return True

    @property
    def address(self) -> str:
        """The prefix."""
        return str(self.prefix)

    def shown(self, name: str = "") -> str:
        """The address."""
        return f"{self.prefix}/{name}" if name else str(self.prefix)

    def check(self, *, resume: bool) -> bool:
        """Whether a run is there."""
        return check_prefix(open_store(self.prefix, retries=_FIRST_RETRIES), resume=resume)

    def hold(self, *, resume: bool, notify: Callable[[str], None]) -> StoreHold:
        """Take the lease, and lock the scratch folder."""
        self.check(resume=resume)
        return StoreHold(self._open(), self.folder, resume=resume, notify=notify)

    def parts(self, stored: BundleFormat) -> StoreParts:
        """The worker's side."""
        return StoreParts(self._open(), self.folder, stored)

    def held_parts(self, parts: int, workers: int) -> int:
        """One per worker, until it is in the store."""
        return min(parts, workers)

    def read_record(self) -> RunRecord:
        """Of `run.json`."""
        return decode_record(self.get(self.folder.record.name), self.shown())

    def write_record(self, record: RunRecord) -> None:
        """By a put that only the first run can do."""
        if not self._open().put_new(self.folder.record.name, record.to_json()):
            raise OutputError(f"another run began in {self.prefix} just now", hint="take another --out")

    def is_finished(self) -> bool:
        """Whether `summary.json` is there."""
        return self.get(self.folder.summary.name) is not None

    def prepare(self) -> None:
        """Make the folder that parts are staged in."""
        make_directory(self.folder.staging)

    def sweep(self) -> None:
        """Nothing: what lost is deleted at the end, when no attempt is on its way any more."""

    def read_commit(self, index: int) -> CommitRecord:
        """From the store."""
        record = _read_commit(self._open(), self.folder, index, checked=True)
        if record is None:
            raise OutputError(f"the commit record {part_name(index)}.arrow is gone from {self.prefix}")
        return record

    def settle(self) -> None:
        """Nothing: an object is durable when it is put."""

    def place(self, path: Path, name: str) -> None:
        """Put it; by the run that has the lease."""
        self._owned().put(name, path)
        path.unlink()

    def put(self, name: str, content: bytes) -> None:
        """Put it; by the run that has the lease: SHA256SUMS and the summary that it names must be of one run."""
        self._owned().put(name, content)

    def get(self, name: str) -> bytes | None:
        """Read it."""
        return self._open().get(name)

    def keep_only(self, attempts: set[str]) -> None:
        """Delete every bundle of another attempt; by the run that has the lease."""
        store = self._owned()
        store.delete(name for name in store.names(BUNDLES) if attempt_of(name) not in attempts)

    def _open(self) -> Store:
        return _opened(self.prefix)

    def _owned(self) -> Store:
        """The store, if this run still has the lease."""
        check_owner(self._open(), owner_of(self.folder))
        return self._open()


_FIRST_RETRIES = 3
"""At first contact: a wrong address is told in a second, and not after minutes."""


@lru_cache(maxsize=8)
def _opened(prefix: StoreAddress) -> Store:
    """One pool of connections per process."""
    return open_store(prefix)


def attempt_of(name: str) -> str:
    """The attempt that put an object below the bundles folder, as `part-00000.<attempt>`."""
    return ".".join(name.split("/")[1].split(".")[:2])


class StoreParts:
    """A `PartHome` (see there for every method) below a prefix."""

    def __init__(self, store: Store, folder: OutputFolder, stored: BundleFormat) -> None:
        self._store = store
        self._folder = folder
        self._format = stored
        self._owner = owner_of(folder)
        self._names: dict[str, list[str]] = {}

    @contextmanager
    def working(self) -> Iterator[None]:
        """The scratch folder's lock, and the lease."""
        with working(self._folder):
            check_owner(self._store, self._owner)
            yield

    def read_commit(self, index: int) -> CommitRecord | None:
        """From the store."""
        return _read_commit(self._store, self._folder, index)

    def is_published(self, index: int, device_uuids: Sequence[bytes]) -> bool:  # noqa: ARG002 - the home's seam
        """Never: no attempt's bundles are in the way of another's."""
        return False

    def stage(self, bundles: PartBundles, index: int, attempt: str) -> Staged:
        """Make them in the scratch folder, put them, and remove them there whatever happens."""
        name = f"{part_name(index)}.{attempt}"
        own = self._folder.attempt(index, attempt)
        make_directory(own)
        try:
            staged = self._format.stage(bundles, own, name)
            check_owner(self._store, self._owner)
            files = [(f"{BUNDLES}/{path.relative_to(own)}", path) for path in _files(own)]
            self._names[attempt] = [file for file, _ in files]
            self._store.put_all(files)
        finally:
            shutil.rmtree(own)
        return Staged(staged.octets, [self._in_attempt(lines, name) for lines in staged.sums])

    def locations(self, index: int, attempt: str, device_uuids: Sequence[bytes]) -> list[str]:
        """The format's, each with the attempt's name."""
        name = f"{part_name(index)}.{attempt}"
        places = self._format.locations(name, device_uuids)
        return [f"{name}/{place}" for place in places] if self._format.name == "dir" else places

    def commit(self, index: int, attempt: str, record: memoryview) -> bool:
        """By a put that only the first can do."""
        names = self._names.pop(attempt)
        try:
            check_owner(self._store, self._owner)
        except RunFailedError:  # who took over may have finished, and would not sweep them
            self._store.delete(names)
            raise
        if self._store.put_new(_commit_name(self._folder, index), bytes(record)):
            return True
        self._store.delete(names)
        return False

    def publish(self, index: int, attempt: str, device_uuids: Sequence[bytes], *, made_now: bool) -> None:
        """Nothing but to look: they were put in their places before they were committed."""
        if made_now:
            return
        wanted = {f"{BUNDLES}/{place}" for place in self.locations(index, attempt, device_uuids)}
        if self._format.name == "dir":
            folder = f"{BUNDLES}/{part_name(index)}.{attempt}"
            there = {name.rpartition("/")[0] for name in self._store.names(folder)}
        else:
            there = {name for name in wanted if self._store.has(name)}
        if not wanted <= there:
            gone = min(wanted - there)
            raise BundleError(f"{gone} was committed, and is not in {self._store.address}")

    def _in_attempt(self, lines: bytes, name: str) -> bytes:
        """Lines of SHA256SUMS with the names that the files have here: the devices' folders are in the attempt's."""
        if self._format.name != "dir":
            return lines
        return lines.replace(f"  {BUNDLES}/".encode(), f"  {BUNDLES}/{name}/".encode())


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _commit_name(folder: OutputFolder, index: int) -> str:
    return str(folder.commit(index).relative_to(folder.path))


def _read_commit(store: Store, folder: OutputFolder, index: int, *, checked: bool = False) -> CommitRecord | None:
    name = _commit_name(folder, index)
    octets = store.get(name)
    return None if octets is None else decode_commit(octets, name.rpartition("/")[2], checked=checked)
