"""A benchmark's result as text and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from batch_issuer.benchmark.figures import FLOOR, summarise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_issuer.benchmark.figures import Round, Spread
    from batch_issuer.benchmark.machine import Machine
    from batch_issuer.benchmark.rounds import Plan

__all__ = ["machine_lines", "result_json", "result_text"]


def result_json(machine: Machine, plan: Plan, rounds: Sequence[Round]) -> str:
    """One JSON object: `machine`, `plan`, `summary` (median, lowest and highest of each figure) and `rounds`."""
    summary = {
        name: {figure: asdict(value) for figure, value in figures.items()}
        for name, figures in summarise(rounds).items()
    }
    return json.dumps({"machine": machine, "plan": asdict(plan), "summary": summary, "rounds": rounds}, indent=2)


def result_text(machine: Machine, plan: Plan, rounds: Sequence[Round]) -> str:
    """A table of the medians, what they were measured on, and how."""
    summary = summarise(rounds)
    width = 2 + max(8, *map(len, summary))
    header = f"{'':<{width}}{'devices/s':>11}{'lowest':>10}{'highest':>10}  {'of the floor':>12}  {'parent':>6}"
    lines = [header]
    for name, figures in summary.items():
        rate = figures["devices_per_second"]
        columns = f"{name:<{width}}{rate.median:>11,.0f}{rate.lowest:>10,.0f}{rate.highest:>10,.0f}"
        ratio, share = _number(figures.get("of_floor"), ".2f"), _number(figures.get("parent_cpu_share"), ".1%")
        lines.append(f"{columns}  {ratio:>12}  {share:>6}".rstrip())
    lines += [
        "",
        *machine_lines(machine),
        f"{plan.devices:,} devices, {plan.workers} processes, parts of {plan.part_size:,}; medians of {plan.rounds}"
        " rounds, ratios within a round",
        f"{FLOOR}: key generation and signature alone; parent: its share of a run's CPU time",
    ]
    return "\n".join(lines)


def machine_lines(machine: Machine) -> list[str]:
    """The machine in two lines."""
    return [
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, {machine['file_system']}",
        f"Python {machine['python']}, cryptography {machine['cryptography']} (OpenSSL {machine['openssl']}), "
        f"pyarrow {machine['pyarrow']}, numpy {machine['numpy']}, batch-issuer {machine['batch_issuer']}",
    ]


def _number(value: Spread | None, form: str) -> str:
    return "" if value is None else format(value.median, form)
