"""Tasks on a cluster: some ahead of the workers, results back, the dead counted. What `processes.Supervisor` is here.

Dask gives a task out again when its worker died, and may run one twice at once: tasks must bear that. It charges a
death to every task that waited at the worker; here only the one that was begun is charged, and a task that kills three
workers fails the whole, by name.
"""

from __future__ import annotations

import os
import pickle
import queue
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from distributed.scheduler import KilledWorker

from batch_issuer.cluster.worker import TOPIC, do_task, envelope_of, start_here
from batch_issuer.errors import RunFailedError
from batch_issuer.processes import MOST_STRIKES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from distributed import Future

    from batch_issuer.cluster.connection import Connection
    from batch_issuer.cluster.worker import Report
    from batch_issuer.stopping import StopRequest

__all__ = ["ClusterSupervisor"]

Task = TypeVar("Task")
Result = TypeVar("Result")

_AHEAD = 2
"""Tasks in flight per thread of a worker: one that is done, and one for while its result travels; more, and at the end
one worker has two left and another none. A million tasks are never with the scheduler at once."""

_POLL_SECONDS = 0.2
_WORKERLESS_SECONDS = 120


@dataclass(slots=True)
class _Flight(Generic[Task]):
    task: Task
    future: Future[Any]
    begun: bool = False


class ClusterSupervisor(Generic[Task, Result]):
    """Runs tasks on a cluster.

    Args:
        connection: the cluster.
        start: called once in each worker process; returns the function that does a task. Picklable; it travels with
            each task, so that a worker that comes later has it, and the scheduler has it no longer than the task.
        label: a task's name, for errors; all names differ.
        stop: ends the giving out of tasks when requested.
        notify: told, in a sentence, when a worker died.

    Attributes:
        ready: when the workers were ready, by `time.monotonic`; None before.
    """

    def __init__(
        self,
        connection: Connection,
        start: Callable[[], Callable[[Task], Result]],
        *,
        label: Callable[[Task], str],
        stop: StopRequest | None = None,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.ready: float | None = None
        self._connection = connection
        self._run = os.urandom(8).hex()
        self._envelope = envelope_of(self._run, start)
        self._label = label
        self._stop = stop
        self._notify = notify
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._flying: dict[str, _Flight[Task]] = {}
        self._again: deque[Task] = deque()
        self._at: dict[str, str] = {}
        self._strikes: Counter[str] = Counter()
        self._sent = 0
        self._room = 0
        self._workerless: float | None = None
        self._failure: BaseException | None = None

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Result]]:
        """Each task with its result, in the order in which they end.

        After a failure, or a stop, what was begun is still finished and yielded.

        Raises:
            BatchIssuerError: the first that a worker reported; `RunFailedError` for any other exception there, for
                workers that die again and again, and when the scheduler is gone.
            OSError: the first that a worker reported.
        """
        source = iter(tasks)
        client = self._connection.client
        topics = {TOPIC: self._on_message, "all": self._on_change}
        for topic, handler in topics.items():
            client.subscribe_topic(topic, handler)
        try:
            self._connection.on_all(start_here, self._envelope)
            self.ready = time.monotonic()
            self._count_room()
            while True:
                self._hand_out(source)
                if not self._flying:
                    break
                yield from self._collect()
            if self._failure is not None:
                raise self._failure
        finally:
            if self._connection.alive:
                client.cancel([flight.future for flight in self._flying.values()], force=True)
                for topic in topics:
                    client.unsubscribe_topic(topic)

    @property
    def _draining(self) -> bool:
        return self._failure is not None or (self._stop is not None and self._stop.requested)

    def _on_message(self, event: tuple[float, dict[str, Any]]) -> None:
        message = event[1]
        if "report" in message:
            self._events.put(("report", message["key"], message["report"]))
        else:
            self._events.put(("begun", message["key"], message["worker"]))

    def _on_change(self, event: tuple[float, dict[str, Any]]) -> None:
        message = event[1]
        if message.get("action") == "remove-worker":
            self._events.put(("gone", message["worker"], None if message["expected"] else message["processing-tasks"]))
        elif message.get("action") == "add-worker":
            self._events.put(("came", "", None))

    def _count_room(self) -> None:
        self._room = _AHEAD * sum(self._connection.workers().values())
        if self._room:
            self._workerless = None
        elif self._workerless is None:
            self._workerless = time.monotonic()

    def _hand_out(self, source: Iterator[Task]) -> None:
        while not self._draining and len(self._flying) < max(self._room, 1):
            task = self._again.popleft() if self._again else next(source, None)
            if task is None:
                return
            self._sent += 1
            key = f"{self._label(task)}-{self._run}-{self._sent}"
            future = self._connection.client.submit(do_task, self._envelope, task, key=key, pure=False, retries=0)
            self._flying[key] = _Flight(task, future)
            future.add_done_callback(lambda future: self._events.put(("done", future.key, None)))

    def _collect(self) -> Iterator[tuple[Task, Result]]:
        try:
            what, key, value = self._events.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            self._look_around()
            return
        finally:
            if self._stop is not None:
                self._stop.announce()
            if self._draining:
                self._call_back()
        if what == "report":
            yield from self._receive(key, value)
        elif what == "done":
            self._check(key)
        elif what == "begun":
            self._at[value] = key
            if key in self._flying:
                self._flying[key].begun = True
        else:
            self._count_room()
            if value is not None:
                self._strike(key, value)

    def _look_around(self) -> None:
        """Is anybody there still? Nothing waits for ever."""
        if not self._connection.alive:
            self._give_up(f"the scheduler of {self._connection.name} is gone")
        elif self._workerless is not None and time.monotonic() - self._workerless > _WORKERLESS_SECONDS:
            self._give_up(f"{self._connection.name} has had no workers for {_WORKERLESS_SECONDS} seconds")

    def _give_up(self, sentence: str) -> None:
        self._failure = self._failure or RunFailedError(sentence)
        self._flying.clear()

    def _call_back(self) -> None:
        """Take back what no worker has begun. What one begins just now ends by itself, committed or not."""
        waiting = [key for key, flight in self._flying.items() if not flight.begun]
        if waiting:
            self._connection.client.cancel([self._flying.pop(key).future for key in waiting], force=True)

    def _receive(self, key: str, octets: bytes) -> Iterator[tuple[Task, Result]]:
        flight = self._flying.pop(key, None)
        if flight is None:  # of another run, or made twice
            return
        del self._strikes[_UNKNOWN]
        report: Report = pickle.loads(octets)  # noqa: S301 - as all that comes from a cluster
        if report.error is None:
            yield flight.task, report.value
        else:
            self._failure = self._failure or report.error

    def _check(self, key: str) -> None:
        """Dask says that a task is over. If it was done, its report came before."""
        flight = self._flying.pop(key, None)
        if flight is None:
            return
        error = flight.future.exception() if flight.future.status == "error" else None
        if error is None or isinstance(error, KilledWorker):
            self._again.append(flight.task)  # given up or dropped by Dask; here deaths are counted otherwise
        else:
            told = f"{type(error).__name__}: {error}"
            self._failure = self._failure or RunFailedError(f"{self._connection.name} failed at {key}: {told}")

    def _strike(self, worker: str, waiting: Iterable[str]) -> None:
        """A worker died, at which these tasks were or waited; Dask gives all of them out again."""
        flight = self._flying.get(self._at.pop(worker, ""))
        if flight is not None:
            name = struck = self._label(flight.task)
            flight.begun = False
        else:  # it died before it could say what it begins: three times without a result between is too often
            names = sorted(self._label(self._flying[key].task) for key in waiting if key in self._flying)
            name, struck = " or ".join(names) or "no task", _UNKNOWN
        self._strikes[struck] += 1
        if self._draining:
            return
        ended = f"the worker {worker} ended at {name}"
        if self._strikes[struck] < MOST_STRIKES:
            self._notify(f"{ended}; what it had is done again")
        else:
            self._failure = RunFailedError(f"{ended}, the third time", hint="see the system's log for what killed it")


_UNKNOWN = ""
