"""What runs on a cluster's workers: one task at a time in each process, its errors as values and not as Dask's.

An error that Dask sees would be logged by it, with arguments and traceback, on three machines. So it sees none.
"""

from __future__ import annotations

import pickle
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from distributed import get_worker

from batch_issuer import __version__
from batch_issuer.core_dumps import forbid_core_dumps
from batch_issuer.errors import RefusedError
from batch_issuer.processes import portable_error

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TOPIC", "Envelope", "Report", "do_task", "envelope_of", "start_here"]

TOPIC = "batch-issuer"
"""One for all runs: a scheduler keeps the last messages of each topic for as long as it lives."""

_one_at_a_time = threading.Lock()
"""A worker may have several threads; a part's keys are made by one, and a token's session is for one."""

_started: dict[str, Callable[[Any], Any]] = {}


@dataclass(frozen=True, slots=True)
class Envelope:
    """A worker's start on its way, as octets: opened only where the version is the same. Nothing shows what is in it.

    Attributes:
        run: whose start it is; 16 hex digits.
        version: of the program that made it.
        octets: the start, pickled; it can hold a CA's key.
    """

    run: str
    version: str
    octets: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a task: its result, or an error of this package or the operating system."""

    value: Any = None
    error: BaseException | None = None


def envelope_of(run: str, start: Callable[[], Callable[[Any], Any]]) -> Envelope:
    """The envelope that holds `start`, which is picklable and is called once in each worker process."""
    return Envelope(run, __version__, pickle.dumps(start))


def start_here(envelope: Envelope) -> Report:
    """Get this process ready for tasks."""

    def start() -> None:
        _ready(envelope)

    return _reported(start)


def do_task(envelope: Envelope, task: Any) -> None:
    """Do one task, and tell those who listen to `TOPIC` when it begins and what came of it.

    The result goes that way, and not as the result that Dask keeps: it takes one message instead of two questions, it
    is there before Dask says that the task is done, and it cannot be lost with a worker and then be waited for.
    """
    with _one_at_a_time:
        worker = get_worker()
        told = {"key": str(worker.get_current_task()), "worker": worker.address}
        worker.log_event(TOPIC, told)
        report = _reported(lambda: _ready(envelope)(task))
        worker.log_event(TOPIC, told | {"report": pickle.dumps(report)})


def _ready(envelope: Envelope) -> Callable[[Any], Any]:
    forbid_core_dumps()
    if envelope.version != __version__:
        raise RefusedError(
            f"batch-issuer {__version__} is installed there, and {envelope.version} here",
            hint="install one version on all machines",
        )
    do = _started.get(envelope.run)
    if do is None:
        _started.clear()  # of runs that are over: each has files open, and perhaps a key
        do = _started[envelope.run] = pickle.loads(envelope.octets)()  # noqa: S301 - whoever can send this can run any code
    return do


def _reported(work: Callable[[], Any]) -> Report:
    try:
        return Report(work())
    except Exception as error:
        return Report(error=portable_error(error))
