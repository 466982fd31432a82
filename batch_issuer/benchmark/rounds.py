"""Round after round: the floor, the core, and each format end to end, one after the other in each round."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_issuer.benchmark.figures import BARE_LOOP, CORE, FLOOR
from batch_issuer.benchmark.loops import CoreLoop, FloorLoop, FolderLoop
from batch_issuer.benchmark.runs import Run, file_sizes, issued
from batch_issuer.benchmark.together import rate_together

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_issuer.benchmark.figures import Figures, Round
    from batch_issuer.benchmark.workload import Workload

__all__ = ["Plan", "measure_round", "measure_rounds", "spread_parts"]

_USUAL_PART = 5000


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        devices: in each measurement.
        rounds: how often.
        workers: processes.
        formats: which are issued end to end.
        part_size: devices per part.
    """

    devices: int
    rounds: int
    workers: int
    formats: tuple[str, ...]
    part_size: int = _USUAL_PART

    @property
    def names(self) -> tuple[str, ...]:
        """What is measured in each round, in this order; dir's own floor stands just before it."""
        formats = [name for kind in self.formats for name in ((BARE_LOOP, kind) if kind == "dir" else (kind,))]
        return (FLOOR, CORE, *formats)


def spread_parts(devices: int, workers: int) -> int:
    """A part size of which every worker gets at least two: otherwise a short run measures idle workers."""
    return max(1, min(_USUAL_PART, -(-devices // (2 * workers))))


def measure_rounds(workload: Workload, plan: Plan, tell: Callable[[str], None]) -> list[Round]:
    """All rounds of a plan.

    Args:
        workload: the devices and their CA.
        plan: what is measured.
        tell: told of each round, in a sentence.

    Raises:
        RunFailedError: a measured run failed.
    """
    sizes = file_sizes(workload) if BARE_LOOP in plan.names else {}
    rounds = []
    for number in range(1, plan.rounds + 1):
        rounds.append(measure_round(workload, plan, sizes))
        rates = ", ".join(f"{name} {figures['devices_per_second']:,.0f}/s" for name, figures in rounds[-1].items())
        tell(f"round {number} of {plan.rounds}: {rates}")
    return rounds


def measure_round(workload: Workload, plan: Plan, sizes: dict[str, int]) -> Round:
    """One round of a plan; `sizes` are those of a device's files, for the bare loop."""
    return {name: _measure(workload, plan, sizes, name) for name in plan.names}


def _measure(workload: Workload, plan: Plan, sizes: dict[str, int], name: str) -> Figures:
    if name == FLOOR:
        return {"devices_per_second": rate_together(FloorLoop(), plan.devices, plan.workers)}
    if name == CORE:
        loop = CoreLoop(workload.issuer, plan.part_size)
        return {"devices_per_second": rate_together(loop, plan.devices, plan.workers)}
    if name == BARE_LOOP:
        folder = workload.folder / "bare"
        try:
            return {"devices_per_second": rate_together(FolderLoop(folder, sizes), plan.devices, plan.workers)}
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    with issued(workload, Run(name, plan.devices, plan.workers, plan.part_size)) as (_, figures):
        return figures
