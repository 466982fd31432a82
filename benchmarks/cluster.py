"""A Dask cluster beside the local pool: `python -m benchmarks.cluster`, which writes `benchmarks/cluster.json`.

Rates from the workers' being ready to the last part, in interleaved rounds; and what a part costs the process that is
client and scheduler: its CPU time for the same devices in many parts and in few, the difference by the parts.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import click

from batch_issuer.benchmark.machine import describe_machine
from batch_issuer.benchmark.runs import Run, issued
from batch_issuer.benchmark.workload import fastest_folder, temporary_workload

if TYPE_CHECKING:
    from batch_issuer.benchmark.figures import Figures
    from batch_issuer.benchmark.workload import Workload

_OUT = Path(__file__).with_name("cluster.json")
_RUNS = (("local", 1), ("local", 2), ("dask", 1), ("dask", 2), ("dask", 4))
_PART_DEVICES = 5000
_SMALL_PART = 50


@click.command()
@click.option("--devices", type=click.IntRange(1), default=200_000, show_default=True, help="Per measurement.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
def main(*, devices: int, rounds: int) -> None:
    """Measure both engines by turns, and write what came of it."""
    rates: dict[str, list[float]] = {f"{engine}-{workers}": [] for engine, workers in _RUNS}
    part_seconds: dict[str, list[float]] = {name: [] for name in rates}
    with temporary_workload(fastest_folder()) as workload:
        machine = describe_machine(workload.folder)
        for place in range(rounds):
            for engine, workers in _RUNS:
                name = f"{engine}-{workers}"
                figures = _figures(workload, engine, Run("parquet", devices, workers, _PART_DEVICES))
                rates[name].append(figures["devices_per_second"])
                part_seconds[name].append(_cost_of_a_part(workload, engine, devices // 10, workers))
                print(
                    f"round {place + 1}: {name} {rates[name][-1]:,.0f}/s, {part_seconds[name][-1] * 1e3:.2f} ms a part",
                    file=sys.stderr,
                )
    ratios = [dask / local for dask, local in zip(rates["dask-2"], rates["local-2"], strict=True)]
    values = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine,
        "devices": devices,
        "part_size": _PART_DEVICES,
        "devices_per_second": rates,
        "parent_cpu_seconds_per_part": part_seconds,
        "medians": {
            "devices_per_second": {name: median(found) for name, found in rates.items()},
            "parent_cpu_seconds_per_part": {name: median(found) for name, found in part_seconds.items()},
            "dask_2_over_local_2": median(ratios),
        },
    }
    _OUT.write_text(json.dumps(values, indent=1) + "\n", "utf-8")
    print(json.dumps(values["medians"], indent=1))


def _figures(workload: Workload, engine: str, run: Run) -> Figures:
    with issued(replace(workload, options=(*workload.options, "--engine", engine)), run) as (_, figures):
        return figures


def _cost_of_a_part(workload: Workload, engine: str, devices: int, workers: int) -> float:
    """Seconds of the parent's CPU time that each part more takes, with as many devices."""
    many, few = (
        _figures(workload, engine, Run("parquet", devices, workers, size)) for size in (_SMALL_PART, 20 * _SMALL_PART)
    )
    parts = devices / _SMALL_PART - devices / (20 * _SMALL_PART)
    return (many["parent_cpu_seconds"] - few["parent_cpu_seconds"]) / parts


if __name__ == "__main__":
    main()
