"""A small supervisor of worker processes: tasks out, results back, the dead replaced.

`multiprocess.Pool` waits for ever when a worker is killed. Here each worker has its own pipe and its process sentinel
is watched: a dead worker is replaced and its task, of which nothing was reported, is given out again. A task that
kills three workers fails the whole, by name.

Workers come from a fork server, a process without threads: the parent, in which Arrow's threads run, is never forked.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections import Counter, deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import multiprocess
import multiprocess.connection
import multiprocess.forkserver

from batch_issuer.core_dumps import forbid_core_dumps
from batch_issuer.errors import BatchIssuerError, RefusedError, RunFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from batch_issuer.stopping import StopRequest

__all__ = [
    "MOST_STRIKES",
    "Supervisor",
    "available_cores",
    "portable_error",
    "prepare_workers",
    "without_own_variables",
]

Task = TypeVar("Task")
Result = TypeVar("Result")

MOST_STRIKES = 3
"""How many workers may die over one task, or in a row as they start."""

_JOIN_SECONDS = 10
_START_SECONDS = 120
"""A worker that is not ready by then is ended, as one that died at its start: nothing waits for ever."""

_VARIABLES = "BATCH_ISSUER_"
_context = multiprocess.get_context("forkserver")


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def prepare_workers(modules: Sequence[str]) -> None:
    """Start the fork server, which imports `modules` while the caller goes on; workers then start in milliseconds.

    Raises:
        RefusedError: the path of the folder for temporary files is too long.
    """
    _context.set_forkserver_preload(list(modules))
    _ensure_server()


def _ensure_server() -> None:
    """Start the fork server if it does not run."""
    # Signals of the terminal go to the whole process group; the server and what it imports must not die of them.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        with without_own_variables():
            multiprocess.forkserver.ensure_running()
    except OSError as error:
        if error.errno is not None:
            raise
        # Python's own words for a path of more than 107 octets, without a number: unix(7), sun_path.
        message = f"the folder of temporary files has too long a path for a socket in it: {gettempdir()}"
        raise RefusedError(message, hint="name a shorter one by TMPDIR") from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextmanager
def without_own_variables() -> Iterator[None]:
    """Meanwhile, this program's variables, which can hold secrets, are in no environment that a process inherits."""
    own = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(_VARIABLES)}
    try:
        yield
    finally:
        os.environ.update(own)


@dataclass(slots=True)
class _Worker(Generic[Task]):
    process: Any
    pipe: Any
    began: float
    task: Task | None = None
    ready: bool = False


class Supervisor(Generic[Task, Result]):
    """Runs tasks in worker processes.

    Args:
        start: called once in each worker; returns the function that does a task. Picklable.
        workers: how many processes.
        label: a task's name, for errors.
        stop: ends the giving out of tasks when requested.
        notify: told, in a sentence, when a worker died and was replaced.

    Attributes:
        ready: when the first worker was ready, by `time.monotonic`; None before.
    """

    def __init__(
        self,
        start: Callable[[], Callable[[Task], Result]],
        *,
        workers: int,
        label: Callable[[Task], str],
        stop: StopRequest | None = None,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.ready: float | None = None
        self._start = start
        self._wanted = workers
        self._label = label
        self._stop = stop
        self._notify = notify
        self._workers: list[_Worker[Task]] = []
        self._again: deque[Task] = deque()
        self._strikes: Counter[str] = Counter()
        self._failure: BaseException | None = None

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Result]]:
        """Each task with its result, in the order in which they end.

        After a failure, or a stop, what is being done is still finished and yielded.

        Raises:
            BatchIssuerError: the first that a worker reported; `RunFailedError` for any other exception there, and for
                workers that die again and again.
            OSError: the first that a worker reported.
        """
        source = iter(tasks)
        try:
            for _ in range(self._wanted):
                self._workers.append(self._new_worker())
            while True:
                self._hand_out(source)
                if not any(worker.task is not None or not worker.ready for worker in self._workers):
                    break
                yield from self._collect()
            if self._failure is not None:
                raise self._failure
        finally:
            self._close()

    @property
    def _draining(self) -> bool:
        return self._failure is not None or (self._stop is not None and self._stop.requested)

    def _new_worker(self) -> _Worker[Task]:
        _ensure_server()
        ours, theirs = _context.Pipe()
        process = _context.Process(target=_work, args=(theirs, self._start), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours, time.monotonic())

    def _hand_out(self, source: Iterator[Task]) -> None:
        for worker in self._workers:
            if worker.ready and worker.task is None and not self._draining:
                task = self._again.popleft() if self._again else next(source, None)
                if task is None:
                    return
                worker.task = task
                with suppress(BrokenPipeError, ConnectionResetError):  # it died just now: its sentinel says so next
                    worker.pipe.send(task)

    def _collect(self) -> Iterator[tuple[Task, Result]]:
        waited: list[Any] = [worker.pipe for worker in self._workers]
        waited += [worker.process.sentinel for worker in self._workers]
        if self._stop is not None and not self._stop.requested:
            waited.append(self._stop)
        signalled = multiprocess.connection.wait(waited, self._patience())
        if self._stop is not None:
            self._stop.announce()
        for worker in list(self._workers):
            if worker.pipe in signalled or worker.process.sentinel in signalled:
                yield from self._receive(worker)

    def _patience(self) -> float | None:
        """Seconds until the next worker should have been ready; those that should be by now are ended."""
        starting = [worker for worker in self._workers if not worker.ready]
        for worker in starting:
            if time.monotonic() - worker.began > _START_SECONDS:
                worker.process.kill()
        return _START_SECONDS if starting else None

    def _receive(self, worker: _Worker[Task]) -> Iterator[tuple[Task, Result]]:
        try:
            message = worker.pipe.recv() if worker.pipe.poll() else None
        except (EOFError, OSError):  # at a message's begin, or within it
            message = None
        if message is None:
            self._bury(worker)
            return
        failed, value = message
        task, worker.task = worker.task, None
        if failed:
            self._failure = self._failure or value
        elif not worker.ready:
            del self._strikes[_STARTING]
            self.ready = self.ready or time.monotonic()
        elif task is not None:
            yield task, value
        worker.ready = True

    def _bury(self, worker: _Worker[Task]) -> None:
        worker.process.kill()  # its pipe is closed: if it is not dead yet, it is of no more use
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        name = _STARTING if worker.task is None else self._label(worker.task)
        self._strikes[name] += 1
        if worker.task is not None:
            self._again.append(worker.task)
        if self._draining:
            return
        ended = f"a worker ended (exit code {worker.process.exitcode}) at {name}"
        if self._strikes[name] >= MOST_STRIKES:
            self._failure = RunFailedError(f"{ended}, the third time", hint="see the system's log for what killed it")
            return
        self._notify(f"{ended}; it is replaced")
        self._workers.append(self._new_worker())

    def _close(self) -> None:
        for worker in self._workers:
            if worker.task is not None or not worker.ready:
                worker.process.kill()
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join(_JOIN_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


_STARTING = "its start"


def _work(pipe: Any, start: Callable[[], Callable[[Any], Any]]) -> None:
    """A worker's life: start, say so, then task after task until the supervisor closes the pipe or is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the supervisor decides when to stop
    forbid_core_dumps()
    try:
        do = start()
        pipe.send((False, None))
        while True:
            task = pipe.recv()
            pipe.send((False, do(task)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:
        _report(pipe, portable_error(error))


def portable_error(error: Exception) -> BatchIssuerError | OSError:
    """What a worker reports of an exception: itself, if it is one that is meant to be seen; without its frames."""
    if not isinstance(error, (BatchIssuerError, OSError)):
        failure = RunFailedError(f"a worker failed: {type(error).__name__}: {error}")
        failure.add_note("".join(traceback.format_exception(error)))
        return failure
    error.__traceback__ = None
    error.__cause__ = error.__context__ = None
    return error


def _report(pipe: Any, error: BaseException) -> None:
    try:
        pipe.send((True, error))
        pipe.recv()
    except (EOFError, OSError):
        return
