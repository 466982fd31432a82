"""The supervisor: workers that die, fail, never start; tasks that are done once all the same."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from batch_issuer.errors import OutputError, RunFailedError
from batch_issuer.processes import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable


def double(task: int) -> int:
    return 2 * task


def doubler() -> Callable[[int], int]:
    return double


def dies_once_at(task: int, marker: Path, number: int) -> int:
    if number == task and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def start_dying_once(task: int, marker: Path) -> Callable[[int], int]:
    return partial(dies_once_at, task, marker)


def always_dies_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def start_always_dying() -> Callable[[int], int]:
    return always_dies_at_three


def start_and_die() -> Callable[[int], int]:
    os.kill(os.getpid(), signal.SIGKILL)
    return double


def start_and_sleep() -> Callable[[int], int]:
    time.sleep(3600)
    return double


def fails_at_two(error: Exception, number: int) -> int:
    if number == 2:
        raise error
    return number


def start_failing(error: Exception) -> Callable[[int], int]:
    return partial(fails_at_two, error)


def supervisor(start: Callable[[], Callable[[int], int]], told: list[str] | None = None) -> Supervisor[int, int]:
    notify = (lambda _: None) if told is None else told.append
    return Supervisor(start, workers=2, label=lambda task: f"task-{task}", notify=notify)


def test_every_task_is_done_once() -> None:
    assert sorted(supervisor(doubler).run(range(50))) == [(n, 2 * n) for n in range(50)]


def test_a_worker_that_dies_is_replaced_and_its_task_done(tmp_path: Path) -> None:
    told: list[str] = []
    start = partial(start_dying_once, 7, tmp_path / "died")
    assert sorted(supervisor(start, told).run(range(20))) == [(n, 2 * n) for n in range(20)]
    assert told == ["a worker ended (exit code -9) at task-7; it is replaced"]


def test_a_task_that_kills_three_workers_fails_the_run_by_name() -> None:
    done: list[int] = []
    running = supervisor(start_always_dying).run(range(6))
    with pytest.raises(RunFailedError, match=r"^a worker ended \(exit code -9\) at task-3, the third time$"):
        done.extend(task for task, _ in running)
    assert 3 not in done


def test_workers_that_die_as_they_start_fail_the_run() -> None:
    with pytest.raises(RunFailedError, match=r"^a worker ended \(exit code -9\) at its start, the third time$"):
        list(supervisor(start_and_die).run(range(6)))


def test_a_worker_that_never_gets_ready_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batch_issuer.processes._START_SECONDS", 0.2)
    with pytest.raises(RunFailedError, match=r"^a worker ended \(exit code -9\) at its start, the third time$"):
        list(supervisor(start_and_sleep).run(range(6)))


def test_an_error_of_a_worker_is_raised_with_its_hint_after_what_was_begun() -> None:
    with pytest.raises(OutputError, match=r"^no room$") as raised:
        list(supervisor(partial(start_failing, OutputError("no room", hint="make some"))).run(range(9)))
    assert raised.value.hint == "make some"


def test_an_operating_system_error_keeps_its_number() -> None:
    with pytest.raises(OSError, match="No space left") as raised:
        list(supervisor(partial(start_failing, OSError(28, "No space left on device", "x"))).run(range(9)))
    assert (raised.value.errno, raised.value.filename) == (28, "x")


def test_any_other_exception_of_a_worker_is_a_failed_run_and_says_where() -> None:
    with pytest.raises(RunFailedError, match=r"^a worker failed: ZeroDivisionError: oh") as raised:
        list(supervisor(partial(start_failing, ZeroDivisionError("oh"))).run(range(9)))
    assert "fails_at_two" in raised.value.__notes__[0]


def test_no_worker_outlives_its_run() -> None:
    running = supervisor(doubler).run(range(1000))
    next(running)
    pids = [worker.process.pid for worker in running.gi_frame.f_locals["self"]._workers]  # type: ignore[attr-defined]
    running.close()  # type: ignore[attr-defined]
    assert pids
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
