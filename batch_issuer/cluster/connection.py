"""A cluster to work on: one of this run's own on this machine, or one that is there already."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dask
from distributed import Client, LocalCluster
from distributed.security import Security

from batch_issuer.cluster.options import check_options
from batch_issuer.errors import BatchIssuerError, RefusedError, RunFailedError
from batch_issuer.processes import without_own_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from batch_issuer.cluster.options import ClusterOptions
    from batch_issuer.cluster.worker import Report

__all__ = ["Connection", "connect"]

_CONNECT_SECONDS = 10
_WORKERS_SECONDS = 60
_CLOSE_SECONDS = 20
_ASKED = 5
_PAUSE_SECONDS = 1
_PRELOAD = "batch_issuer.cluster.preload"
_NEVER = 1 << 30
"""Deaths for which Dask gives up a task: this program counts them itself, and blames only the task that was begun."""

_SCHEDULER = {"allowed_failures": _NEVER, "dashboard": False, "dashboard_address": "127.0.0.1:0"}

_CONFIGURATION = {
    # It always has a web server, on all addresses of the machine unless told otherwise: on loopback, with no page.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    # A sampler of every worker's stack, a hundred times a second, is of no use here.
    "distributed.worker.profile.enabled": False,
    # Dask would have every worker give memory back to the system at once, and each part ask for it again.
    "distributed.nanny.pre-spawn-environ": {},
}


class Connection:
    """A cluster that answers.

    Attributes:
        client: Dask's.
        name: what a sentence calls it.
    """

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name

    @property
    def alive(self) -> bool:
        """Whether the scheduler is there."""
        return bool(self.client.status == "running")

    def workers(self) -> dict[str, int]:
        """The workers that are there now: address and threads."""
        found: dict[str, int] = self.client.nthreads()
        return found

    def on_all(self, function: Callable[..., Report], *arguments: Any) -> None:
        """Call a function in every worker that is there now, until each has answered; it may be called again.

        Raises:
            BatchIssuerError: the first that one of them reported, or that one does not answer.
        """
        for _ in range(_ASKED):
            found = self.client.run(function, *arguments, on_error="return")
            silent = [_outcome(address, report) for address, report in sorted(found.items())]
            if not any(silent):
                return
            time.sleep(_PAUSE_SECONDS)  # who has just died is gone by then, or is back
        raise RunFailedError(next(filter(None, silent)))


def _outcome(address: str, report: Report | BaseException) -> str | None:
    """Why a worker has not answered, None if it has; what it has to say against it is raised."""
    if isinstance(report, ImportError):
        raise RefusedError(
            f"the worker {address} cannot import what it needs: {report}",
            hint="install batch-issuer[dask] of one version on all machines",
        )
    if isinstance(report, BaseException):
        return f"the worker {address} could not be asked: {type(report).__name__}"
    if isinstance(report.error, BatchIssuerError):
        kind = RefusedError if isinstance(report.error, RefusedError) else RunFailedError
        raise kind(f"the worker {address} cannot do it: {report.error}", hint=report.error.hint)
    if report.error is not None:
        raise RunFailedError(f"the worker {address} failed: {report.error}")
    return None


@contextmanager
def connect(options: ClusterOptions, *, workers: int, scratch: Path) -> Iterator[Connection]:
    """Work on a cluster, which ends with this if it is the run's own.

    Args:
        options: which.
        workers: processes of a cluster of the run's own.
        scratch: a private folder, made if it is not there, for what Dask writes on this machine.

    Raises:
        RefusedError: it is not there, has no workers, or is not allowed.
    """
    check_options(options)
    if not options.logs:
        _silence()
    if options.scheduler is None:
        with _own(options, workers, scratch) as connection:
            yield connection
        return
    security = Security(require_encryption=False)
    if options.encrypted:
        files = {"tls_ca_file": options.tls_ca_file, "tls_client_cert": options.tls_cert}
        files["tls_client_key"] = options.tls_key
        security = Security(require_encryption=True, **{name: str(path) for name, path in files.items()})
    try:
        client = Client(
            options.scheduler, security=security, timeout=_CONNECT_SECONDS, set_as_default=False, name="batch-issuer"
        )
    except (OSError, TimeoutError, ValueError) as error:
        raise RefusedError(
            f"the scheduler {options.scheduler} does not answer: {_reason(error)}",
            hint="is it there, and are the TLS files those of its cluster?",
        ) from None
    try:
        connection = Connection(client, f"the cluster at {options.scheduler}")
        _check_workers(connection, options)
        yield connection
    finally:
        client.close(timeout=_CLOSE_SECONDS)


@contextmanager
def _own(options: ClusterOptions, workers: int, scratch: Path) -> Iterator[Connection]:
    """A cluster on loopback, of processes that know each other by a certificate that is in their memory only.

    Without TLS, every user of this machine could have its scheduler run any code as this user.
    """
    level = logging.WARNING if options.logs else logging.CRITICAL
    security = Security.temporary()
    # Its keepers start processes anew when one dies: what these inherit must hold no secret as long as it lives.
    with (
        without_own_variables(),
        dask.config.set({**_CONFIGURATION, "temporary-directory": str(scratch)}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            memory_limit=0,
            silence_logs=level,
            dashboard_address=None,
            security=security,
            local_directory=str(scratch),
            preload=[_PRELOAD],
            scheduler_kwargs=_SCHEDULER,
        ) as cluster,
        Client(cluster, security=security, set_as_default=False, name="batch-issuer") as client,
    ):
        client.wait_for_workers(workers, timeout=_WORKERS_SECONDS)
        yield Connection(client, "the cluster on this machine")


def _check_workers(connection: Connection, options: ClusterOptions) -> None:
    try:
        connection.client.wait_for_workers(1, timeout=_WORKERS_SECONDS)
    except TimeoutError:
        raise RefusedError(
            f"{connection.name} has no workers", hint=f"start one: `dask worker {options.scheduler} --nthreads 1`"
        ) from None
    plain = [address for address in connection.workers() if options.encrypted and not address.startswith("tls://")]
    if plain:
        raise RefusedError(f"{connection.name} has a worker that is spoken to without encryption: {plain[0]}")


def _reason(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _silence() -> None:
    """Dask and tornado say nothing: what goes wrong is said by this program."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in {"distributed", "tornado"}]
    for name in {"distributed", "tornado", "asyncio", *names}:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
