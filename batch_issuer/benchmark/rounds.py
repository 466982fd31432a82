"""Round after round: the floor, the core, and each format end to end, one after the other in each round."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_issuer.authority.tokens import TokenKey
from batch_issuer.benchmark.figures import (
    BARE_LOOP,
    C_SIGN,
    C_SIGN_COPY,
    CORE,
    FLOOR,
    P12,
    P12_LOOP,
    P12_RANDOM,
    SEALED,
)
from batch_issuer.benchmark.loops import CoreLoop, FloorLoop, FolderLoop, P12Loop
from batch_issuer.benchmark.runs import Run, file_sizes, issued
from batch_issuer.benchmark.together import rate_together
from batch_issuer.benchmark.token import SignLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from batch_issuer.benchmark.figures import Figures, Round
    from batch_issuer.benchmark.together import Loop
    from batch_issuer.benchmark.workload import Workload

__all__ = ["P12_SHARE", "USUAL_PART", "Plan", "measure", "measure_rounds", "names_of", "spread_parts"]

USUAL_PART = 5000
"""Devices per part unless told otherwise, as `batch-issuer issue` has it."""


P12_SHARE = 20
"""One of so many devices is issued as `p12`, which takes some fifty times as long."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        devices: in each measurement.
        rounds: how often.
        workers: processes.
        names: what is measured in each round, in this order: `FLOOR`, `CORE`, `BARE_LOOP`, of a token's
            workload `C_SIGN` and `C_SIGN_COPY`, and formats by name, with `SEALED` after it or not.
        part_size: devices per part.
    """

    devices: int
    rounds: int
    workers: int
    names: tuple[str, ...]
    part_size: int = USUAL_PART


def names_of(formats: Iterable[str]) -> tuple[str, ...]:
    """What to measure for these formats: the floor, the core and they; dir's and p12's own floors stand before them."""
    of_kind = {"dir": (BARE_LOOP, "dir"), "p12": (P12_LOOP, P12, P12_RANDOM)}
    return (FLOOR, CORE, *(name for kind in formats for name in of_kind.get(kind, (kind,))))


def spread_parts(devices: int, workers: int) -> int:
    """A part size of which every worker gets at least two: otherwise a short run measures idle workers."""
    return max(1, min(USUAL_PART, -(-devices // (2 * workers))))


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
        rounds.append({name: measure(workload, plan, name, sizes) for name in plan.names})
        rates = ", ".join(f"{name} {figures['devices_per_second']:,.0f}/s" for name, figures in rounds[-1].items())
        tell(f"round {number} of {plan.rounds}: {rates}")
    return rounds


def measure(workload: Workload, plan: Plan, name: str, sizes: dict[str, int]) -> Figures:
    """One measurement of a plan.

    Args:
        workload: the devices and their CA.
        plan: how many devices and processes.
        name: what is measured.
        sizes: octets of each of a device's files, for the bare loop.

    Raises:
        RunFailedError: the measured run failed.
    """
    devices, part_size = plan.devices, plan.part_size
    if name in (P12, P12_RANDOM, P12_LOOP):
        devices = max(plan.workers, devices // P12_SHARE)
        part_size = min(part_size, spread_parts(devices, plan.workers))
    if loop := _loop(workload, plan, name):
        return {"devices_per_second": rate_together(loop, devices, plan.workers)}
    if name == BARE_LOOP:
        folder = workload.folder / "bare"
        try:
            return {"devices_per_second": rate_together(FolderLoop(folder, sizes), plan.devices, plan.workers)}
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    kind = name.removesuffix(SEALED)
    with issued(workload, Run(kind, devices, plan.workers, part_size, sealed=kind != name)) as (_, figures):
        return figures


def _loop(workload: Workload, plan: Plan, name: str) -> Loop | None:
    if name == FLOOR:
        return FloorLoop()
    if name == P12_LOOP:
        return P12Loop(workload.issuer)
    if name == CORE:
        return CoreLoop(workload.issuer, plan.part_size)
    if name in (C_SIGN, C_SIGN_COPY):
        assert isinstance(workload.issuer.key, TokenKey)  # noqa: S101 - a token's workload
        return SignLoop(workload.folder, workload.issuer.key, copy=name == C_SIGN_COPY)
    return None
