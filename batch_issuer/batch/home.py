"""Where a run's output lives: a folder, or a prefix in an object store. The story of a run is the same for both."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from batch_issuer.batch.folder_home import FolderHome
from batch_issuer.output.folder import OutputFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from batch_issuer.bundles.contents import PartBundles
    from batch_issuer.bundles.format import BundleFormat, Staged
    from batch_issuer.output.record import RunRecord
    from batch_issuer.output.rows import CommitRecord
    from batch_issuer.stores.address import StoreAddress

__all__ = ["Hold", "Home", "PartHome", "home_of"]


class PartHome(Protocol):
    """What a worker does with a part. A part can be made twice at once, and is committed by one attempt."""

    def working(self) -> AbstractContextManager[None]:
        """Hold the run, shared, from before an attempt's first file to after its last: nobody sweeps meanwhile.

        Raises:
            RunFailedError: the run is over, or another process has it.
        """

    def read_commit(self, index: int) -> CommitRecord | None:
        """The part's commit record; None if it is not committed.

        Raises:
            OutputError: it is damaged.
        """

    def is_published(self, index: int, device_uuids: Sequence[bytes]) -> bool:
        """Whether another attempt has committed and published the part just now.

        Raises:
            BundleError: bundles are in place that no commit record knows.
        """

    def stage(self, bundles: PartBundles, index: int, attempt: str) -> Staged:
        """Store an attempt's bundles, durable on return, where nobody takes them for issued."""

    def locations(self, index: int, attempt: str, device_uuids: Sequence[bytes]) -> list[str]:
        """Where each device's bundle will be once it is published, below the bundles folder."""

    def commit(self, index: int, attempt: str, record: memoryview) -> bool:
        """Commit an attempt unless another is; whether this one is. One that lost is gone on return."""

    def publish(self, index: int, attempt: str, device_uuids: Sequence[bytes], *, made_now: bool) -> None:
        """Bring the committed attempt's bundles to their places. Idempotent.

        Args:
            index: of the part.
            attempt: which was committed.
            device_uuids: the part's.
            made_now: whether this process made and committed it just now.

        Raises:
            BundleError: they are nowhere.
        """


class Hold(Protocol):
    """One run's hold on its home; a context manager that lets go.

    Attributes:
        resuming: whether a run is there already.
    """

    resuming: bool

    def __enter__(self) -> Hold:
        """Hold it."""

    def __exit__(self, *_: object) -> None:
        """Let go."""

    def alone(self) -> AbstractContextManager[None]:
        """No worker of this run is at a part meanwhile.

        Raises:
            OutputError: one does not end.
        """

    def abandon(self) -> None:
        """Leave everything as it was before: the run was refused and nothing was made."""

    def finish(self) -> None:
        """Remove what only an unfinished run has."""


class Home(Protocol):
    """Where a run's output lives. It travels to the workers, and each opens its own.

    Attributes:
        folder: this machine's share of it: the plan and the parts in the making; of a run in a folder, all of it.
        named_by_attempt: whether bundles keep the name of the attempt that made them, since nothing can be renamed.
    """

    @property
    def folder(self) -> OutputFolder:
        """See above."""

    @property
    def named_by_attempt(self) -> bool:
        """See above."""

    @property
    def address(self) -> str:
        """Where it is, whatever folder one is in."""

    def shown(self, name: str = "") -> str:
        """What to call it, or something in it."""

    def check(self, *, resume: bool) -> bool:
        """Whether a run is there that can be gone on with; nothing is written.

        Raises:
            OutputError: it holds something else, or a run and `resume` is off.
        """

    def hold(self, *, resume: bool, notify: Callable[[str], None]) -> Hold:
        """Take it for one run.

        Raises:
            OutputError: it is not fit, or in use.
        """

    def parts(self, stored: BundleFormat) -> PartHome:
        """What a worker needs, opened; parts are stored in that format."""

    def held_parts(self, parts: int, workers: int) -> int:
        """How many of a run's parts lie on this machine's disk at once."""

    def read_record(self) -> RunRecord:
        """What was asked.

        Raises:
            OutputError: there is none, or it is damaged.
        """

    def write_record(self, record: RunRecord) -> None:
        """Begin the run: from then on it can be resumed.

        Raises:
            OutputError: another run began here.
        """

    def is_finished(self) -> bool:
        """Whether the run is: its summary is there."""

    def prepare(self) -> None:
        """Make the places that parts need."""

    def sweep(self) -> None:
        """Remove every attempt that is not committed; for who holds the home alone."""

    def read_commit(self, index: int) -> CommitRecord:
        """A committed part's record.

        Raises:
            OutputError: it is missing or damaged.
        """

    def settle(self) -> None:
        """Make the names of everything that was published durable."""

    def place(self, path: Path, name: str) -> None:
        """Bring a durable file of this machine's share to its place."""

    def put(self, name: str, content: bytes) -> None:
        """Put a small file in its place, whole and durable."""

    def get(self, name: str) -> bytes | None:
        """A small file's octets; None if it is not there."""

    def keep_only(self, attempts: set[str]) -> None:
        """Remove the published bundles of attempts that lost.

        Args:
            attempts: the committed ones, as `part-00000.<attempt>`.
        """


def home_of(out: Path | StoreAddress, scratch: Path | None = None) -> Home:
    """The home that an option names.

    Args:
        out: a folder, or a prefix in a store.
        scratch: a folder for parts on their way into a store; None takes one below the system's for temporary files.
    """
    if isinstance(out, Path):
        return FolderHome(OutputFolder(out))
    from batch_issuer.batch.store_home import StoreHome  # noqa: PLC0415 - needs a package that folders do not

    return StoreHome(out, OutputFolder(_scratch(out, scratch)))


def _scratch(address: StoreAddress, below: Path | None) -> Path:
    """One name per user and prefix: who resumes finds, and sweeps, what a killed run left there."""
    name = hashlib.sha256(f"{os.geteuid()} {address}".encode()).hexdigest()[:16]
    return (below or Path(tempfile.gettempdir())).absolute() / f"batch-issuer-{name}"
