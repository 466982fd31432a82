"""The same loop in several processes, started together: how many devices all of them do in a second."""

from __future__ import annotations

import gc
import signal
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

import multiprocess

from batch_issuer.errors import RunFailedError
from batch_issuer.processes import prepare_workers

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Loop", "rate_together"]

_LOOPS = "batch_issuer.benchmark.loops"


class Loop(Protocol):
    """What is measured. Picklable; each process prepares its own."""

    def prepare(self, place: int, count: int) -> Callable[[], None]:
        """Everything that is not measured, warmed up; returns what is: the work for `count` devices.

        Args:
            place: which of the processes this is, from 0.
            count: its devices, at least 1.
        """


def rate_together(loop: Loop, devices: int, workers: int) -> float:
    """Devices per second of `workers` processes together: all devices over the time from first start to last end.

    The processes come from the same fork server as those of a run.

    Raises:
        RunFailedError: a process ended before its work.
    """
    context = multiprocess.get_context("forkserver")
    prepare_workers([_LOOPS])
    processes, pipes = [], []
    try:
        for place in range(workers):
            count = devices // workers + (place < devices % workers)
            if count:
                ours, theirs = context.Pipe()
                process = context.Process(target=_measure, args=(theirs, loop, place, count), daemon=True)
                process.start()
                theirs.close()
                processes.append(process)
                pipes.append(ours)
        return _rate(pipes, devices)
    except (EOFError, OSError):
        raise RunFailedError("a process of the benchmark ended before its work") from None
    finally:
        for process, pipe in zip(processes, pipes, strict=True):
            pipe.close()
            process.kill()
            process.join()


def _rate(pipes: list[Any], devices: int) -> float:
    for pipe in pipes:
        pipe.recv()  # it is ready
    for pipe in pipes:
        pipe.send(None)
    # The monotonic clock is the machine's: its readings in different processes can be compared.
    begins, ends = zip(*(pipe.recv() for pipe in pipes), strict=True)
    rate: float = devices / (max(ends) - min(begins))
    return rate


def _measure(pipe: Any, loop: Loop, place: int, count: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; the parent ends this process
    work = loop.prepare(place, count)
    # As the workers of a run do: no collector walks what the loop keeps.
    gc.freeze()
    gc.disable()
    pipe.send(None)
    pipe.recv()
    began = monotonic()
    work()
    pipe.send((began, monotonic()))
