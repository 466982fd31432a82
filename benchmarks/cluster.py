"""A Dask cluster beside the local pool: `python -m benchmarks.cluster`, which writes `benchmarks/results/dask.json`.

Rates from the workers' being ready to the last part, in interleaved rounds; and what a part costs the process that is
client and scheduler: its CPU time for the same devices in many parts and in few, the difference by the parts.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batch_issuer.benchmark.machine import describe_machine
from batch_issuer.benchmark.runs import Run, issued
from batch_issuer.benchmark.workload import fastest_folder, temporary_workload
from benchmarks.results import Results, write
from benchmarks.sections import Section

if TYPE_CHECKING:
    from batch_issuer.benchmark.figures import Figures, Round
    from batch_issuer.benchmark.workload import Workload

RESULTS = Path(__file__).parent / "results" / "dask.json"
_RUNS = (("local", 1), ("local", 2), ("dask", 1), ("dask", 2), ("dask", 4))
_PART_DEVICES = 5000
_SMALL_PART = 50


@click.command(context_settings={"max_content_width": 100})
@click.option("--devices", type=click.IntRange(1), default=200_000, show_default=True, help="Per measurement.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Of everything.")
@click.option("--results", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS, help="The results' file.")
def main(*, devices: int, rounds: int, results: Path) -> None:
    """Measure both engines by turns; write results."""
    measured = []
    with temporary_workload(fastest_folder()) as workload:
        for number in range(1, rounds + 1):
            measured.append(_round(workload, devices))
            told = (f"{name} {figures['devices_per_second']:,.0f}/s" for name, figures in measured[-1].items())
            print(f"round {number} of {rounds}: {', '.join(told)}", file=sys.stderr)
    section = Section({"devices": devices, "rounds": rounds, "part_size": _PART_DEVICES}, measured)
    date = datetime.now(UTC).date().isoformat()
    write(Results(date, describe_machine(fastest_folder()), {"cluster": section}), results)


def _round(workload: Workload, devices: int) -> Round:
    one: Round = {}
    for engine, workers in _RUNS:
        figures = _figures(workload, engine, Run("parquet", devices, workers, _PART_DEVICES))
        rate = figures["devices_per_second"]
        one[f"{engine} {workers}"] = {
            "devices_per_second": rate,
            "parent_seconds_per_part": _cost_of_a_part(workload, engine, devices // 10, workers),
        }
        if engine == "dask" and (beside := one.get(f"local {workers}")):
            one[f"{engine} {workers}"]["of_local"] = rate / beside["devices_per_second"]
    return one


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
