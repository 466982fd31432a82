"""Who makes a run's parts: worker processes of this machine, or a Dask cluster. Nothing else of a run knows which."""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from batch_issuer.authority.tokens import TokenKey
from batch_issuer.authority.worker_keys import PathKey, WorkerTokenKey
from batch_issuer.batch.folder_home import FolderHome
from batch_issuer.errors import OutputError, RefusedError
from batch_issuer.files import PRIVATE_MODE, make_directory, write_new
from batch_issuer.minting.keys import choose_engine
from batch_issuer.output.folder import OutputFolder, part_name
from batch_issuer.processes import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from batch_issuer.authority.issuer import Issuer
    from batch_issuer.authority.signers import SignerSource
    from batch_issuer.batch.home import Home
    from batch_issuer.batch.part import PartDone, PartWork
    from batch_issuer.batch.request import RunRequest
    from batch_issuer.cluster.connection import Connection
    from batch_issuer.stopping import StopRequest

__all__ = ["Engine", "Parts", "check_engine", "open_engine"]

_NONCE_OCTETS = 16


class Parts(Protocol):
    """The making of parts.

    Attributes:
        ready: when the first worker was ready, by `time.monotonic`; None before.
    """

    ready: float | None

    def run(self, tasks: Iterable[int], /) -> Iterator[tuple[int, PartDone]]:
        """Each part's index with what came of it, in the order in which they end.

        After a failure, or a stop, what is being done is still finished and yielded.

        Raises:
            BatchIssuerError, OSError: the first that a worker reported.
        """


class Engine(Protocol):
    """Who makes parts."""

    def workers(self, parts: int) -> int:
        """How many worker processes a run of so many parts has."""

    def parts(self, work: PartWork, *, workers: int, stop: StopRequest, notify: Callable[[str], None]) -> Parts:
        """Get them made, with `workers` worker processes."""

    def close(self) -> None:
        """No more are to be made. What is the run's own of a cluster ends, and with it what that has in the folder."""


def check_engine(request: RunRequest) -> None:
    """Whether the engine that was asked for can write where it was asked to.

    Raises:
        RefusedError: it cannot.
    """
    if request.cluster is not None and request.prefix is not None:
        raise RefusedError(
            "--engine dask writes into a folder that its workers share, and --out is in an object store",
            hint="take a shared folder, or --engine local",
        )


@contextmanager
def open_engine(request: RunRequest, home: Home, issuer: Issuer) -> Iterator[Engine]:
    """The engine that was asked for, fit for this run before anything is planned or made.

    Args:
        request: the options.
        home: where the run's output lives, held.
        issuer: the CA.

    Raises:
        RefusedError: there is no such cluster, its workers do not see the folder, cannot sign, or lack the key engine.
    """
    if request.cluster is None:
        yield _LocalEngine(request.workers)
        return
    from batch_issuer.cluster.connection import connect  # noqa: PLC0415 - Dask is an extra
    from batch_issuer.cluster.worker import envelope_of, start_here  # noqa: PLC0415 - Dask is an extra

    shared = _share(home.folder)
    key = _worker_key(request, issuer)
    dask_files = shared.work / "dask"
    if not dask_files.is_dir():
        make_directory(dask_files)
    with ExitStack() as opened:
        connection = opened.enter_context(connect(request.cluster, workers=request.workers, scratch=dask_files))
        check = _Check(shared, shared.nonce.read_text(), key, request.key_engine)
        connection.on_all(start_here, envelope_of(os.urandom(8).hex(), check))
        yield _ClusterEngine(connection, shared, key, opened)


@dataclass(frozen=True, slots=True)
class _LocalEngine:
    wanted: int

    def workers(self, parts: int) -> int:
        return min(self.wanted, parts)

    def parts(self, work: PartWork, *, workers: int, stop: StopRequest, notify: Callable[[str], None]) -> Parts:
        return Supervisor(work, workers=workers, label=part_name, stop=stop, notify=notify)

    def close(self) -> None:
        return


@dataclass(frozen=True, slots=True)
class _ClusterEngine:
    connection: Connection
    folder: OutputFolder
    key: SignerSource
    opened: ExitStack

    def workers(self, parts: int) -> int:  # noqa: ARG002 - a cluster is as large as it is
        return len(self.connection.workers())

    def parts(self, work: PartWork, *, workers: int, stop: StopRequest, notify: Callable[[str], None]) -> Parts:  # noqa: ARG002 - the same
        from batch_issuer.cluster.supervisor import ClusterSupervisor  # noqa: PLC0415 - Dask is an extra

        theirs = replace(work, home=FolderHome(self.folder), issuer=replace(work.issuer, key=self.key))
        start = _Start(_Check(self.folder, self.folder.nonce.read_text(), None, work.engine), theirs)
        return ClusterSupervisor(self.connection, start, label=part_name, stop=stop, notify=notify)

    def close(self) -> None:
        self.opened.close()


@dataclass(frozen=True, slots=True)
class _Start:
    """A worker's start on a cluster: it may have come after the others were checked."""

    check: _Check
    work: PartWork

    def __call__(self) -> Callable[[int], PartDone]:
        self.check()
        return self.work()


@dataclass(frozen=True, slots=True)
class _Check:
    """What a worker of a cluster must have: the run's own folder, its locks, and a key that it can open.

    Attributes:
        folder: the run's, by an absolute path.
        nonce: what the parent has written there.
        key: the CA's, None not to try it.
        key_engine: the name of what is to make keys there.
    """

    folder: OutputFolder
    nonce: str
    key: SignerSource | None
    key_engine: str

    def __call__(self) -> Callable[[object], None]:
        try:
            seen = self.folder.nonce.read_text()
        except OSError:
            seen = ""
        if seen != self.nonce:
            raise OutputError(
                f"{self.folder.path} is not there, or is another folder than this run's",
                hint="--out must be one shared folder, at the same path and of the same user on all machines",
            )
        if not os.access(self.folder.bundles.parent, os.W_OK | os.X_OK):
            raise OutputError(f"{self.folder.path} cannot be written", hint="run the workers as this run's user")
        self._check_locks()
        choose_engine(self.key_engine)
        if self.key is not None:
            self.key.open()
        return lambda _: None

    def _check_locks(self) -> None:
        # The parent holds this one alone. Who gets it all the same is on a file system whose locks end at the machine,
        # and a resumed run would not wait for the workers of a killed one.
        with self.folder.run_lock.open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return
        raise OutputError(
            f"{self.folder.path} is on a file system whose locks do not hold from one machine to the other",
            hint="mount it so that flock(2) is the server's work; of NFS, without `nolock` and `local_lock`",
        )


def _share(folder: OutputFolder) -> OutputFolder:
    """The folder as other processes see it, with a mark in it that they can know it by."""
    shared = OutputFolder(folder.path.absolute())
    shared.nonce.unlink(missing_ok=True)
    write_new(shared.nonce, [os.urandom(_NONCE_OCTETS).hex().encode()], PRIVATE_MODE)
    return shared


def _worker_key(request: RunRequest, issuer: Issuer) -> SignerSource:
    """What a cluster's workers sign with, as it was chosen."""
    assert request.cluster is not None  # noqa: S101 - it is asked for a cluster only
    if request.format == "p12" and not request.cluster.encrypted:
        raise RefusedError(
            "--format p12 sends the bundles' password to the workers, and this cluster is not encrypted",
            hint="take a cluster with TLS",
        )
    if request.worker_ca == "channel":
        if not request.cluster.encrypted:
            raise RefusedError(
                "--worker-ca channel sends the CA's key to the workers, and this cluster is not encrypted",
                hint="take --worker-ca path or token, or a cluster with TLS",
            )
        return issuer.key
    secret = None if request.worker_secret_file is None else request.worker_secret_file.absolute()
    if request.worker_ca == "path":
        return PathKey(request.pki.absolute(), request.ca_name, issuer.certificate, secret)
    if not isinstance(issuer.key, TokenKey):
        raise RefusedError(
            "--worker-ca token is for a CA with its key in a token, and this one's is a file",
            hint="--hsm-module and --hsm-token-label name the token",
        )
    return WorkerTokenKey(issuer.key.module, issuer.key.token, issuer.key.label, secret)
