"""The short benchmark of continuous integration: ratios against loose minimums, never absolute times.

The minimums are far below what a quiet machine measures: they are to catch what makes the program half as fast, not
to judge a shared machine. What fails is measured once more, and only what fails again fails the check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_issuer.benchmark.figures import BARE_LOOP, CORE, FLOOR, Limit, summarise
from batch_issuer.benchmark.rounds import Plan, measure_rounds, spread_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batch_issuer.benchmark.figures import Round
    from batch_issuer.benchmark.workload import Workload

__all__ = ["Trial", "run_trials", "trials_for"]


@dataclass(frozen=True, slots=True)
class Trial:
    """What is measured together, and what its medians must keep to.

    Attributes:
        measure: gives the rounds; told where to tell.
        limits: on them.
    """

    measure: Callable[[Callable[[str], None]], list[Round]]
    limits: tuple[Limit, ...]


def trials_for(workload: Workload, devices: int, rounds: int, workers: int) -> list[Trial]:
    """The trials.

    Args:
        workload: the devices and their CA.
        devices: per measurement of folders, the slowest; the others take a multiple, so that starting weighs little.
        rounds: of each trial.
        workers: processes.
    """

    def rounds_of(count: int, times: int, *names: str) -> Callable[[Callable[[str], None]], list[Round]]:
        plan = Plan(count, times, workers, names, spread_parts(count, workers))
        return lambda tell: measure_rounds(workload, plan, tell)

    packed = (Limit(CORE, "of_floor", 0.60), Limit("parquet", "of_floor", 0.50), Limit("tar", "of_floor", 0.40))
    folders = (Limit("dir", "of_bare_loop", 0.60),)
    # A long run: in a short one the parent's imports weigh more than what it does for the devices.
    parent = (Limit("parquet", "parent_cpu_share", 0.15, at_most=True),)
    return [
        Trial(rounds_of(3 * devices, rounds, FLOOR, CORE, "parquet", "tar"), packed),
        Trial(rounds_of(devices, rounds, BARE_LOOP, "dir"), folders),
        Trial(rounds_of(8 * devices, 1, "parquet"), parent),
    ]


def run_trials(trials: Sequence[Trial], tell: Callable[[str], None]) -> list[str]:
    """Measure and judge; a sentence for each limit that was broken twice."""
    failures = []
    for trial in trials:
        failures += _run_trial(trial, tell)
    return failures


def _run_trial(trial: Trial, tell: Callable[[str], None]) -> list[str]:
    summary = summarise(trial.measure(tell))
    failed = [limit for limit in trial.limits if not limit.holds(summary)]
    for limit in trial.limits:
        tell(f"{'failed' if limit in failed else 'ok'}: {limit.sentence(summary)}")
    if not failed:
        return []
    tell("measured once more, because the machines of continuous integration are shared")
    summary = summarise(trial.measure(tell))
    for limit in failed:
        tell(f"{'ok' if limit.holds(summary) else 'failed again'}: {limit.sentence(summary)}")
    return [limit.sentence(summary) for limit in failed if not limit.holds(summary)]
