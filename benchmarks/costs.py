"""`python -m benchmarks.costs`: what the simulation of a larger run is computed from, besides the rates.

Entropy, the parent's last step, the ledger and the octets of every file that a run leaves, each per device or per part.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batch_issuer.benchmark.machine import describe_machine
from batch_issuer.benchmark.runs import run_program
from batch_issuer.benchmark.workload import fastest_folder, temporary_workload
from batch_issuer.ledger.entries import IssuedPart, LedgerRun, ReservedPart
from batch_issuer.ledger.ledger import open_ledger
from benchmarks.results import Results, write
from benchmarks.sections import Section

if TYPE_CHECKING:
    from batch_issuer.benchmark.figures import Figures, Round
    from batch_issuer.benchmark.workload import Workload

__all__ = ["measure_costs"]

RESULTS = Path(__file__).parent / "results" / "costs.json"
_PART = 5000
_SERIALS = 20 * _PART
_DRAWS = 2_000
_LOOKED_UP = 1_000_000
_SIZED = 20_000


def measure_costs(workload: Workload, devices: int, workers: int) -> Round:
    """One round of all of them.

    Args:
        workload: where, and by which CA.
        devices: issued to measure the last step, and entered into a ledger.
        workers: processes that issue.

    Raises:
        RunFailedError: a run failed.
    """
    one: Round = {"entropy": _entropy(), "ledger": _ledger(workload.folder / "ledger", devices)}
    for kind in ("parquet", "tar", "dir"):
        one[kind] = _finished(workload, kind, devices if kind == "parquet" else _SIZED, workers)
    return one


def _entropy() -> Figures:
    """A part's serial numbers, drawn from the kernel in one call each, by one process."""
    began = time.perf_counter()
    for _ in range(_DRAWS):
        os.urandom(_SERIALS)
    return {"octets_per_second": _DRAWS * _SERIALS / (time.perf_counter() - began)}


def _ledger(path: Path, devices: int) -> Figures:
    """Holding, recording and looking up so many devices, part by part, as a run does it."""
    ledger = open_ledger(path, create=True)
    assert ledger is not None  # noqa: S101 - it was to be made
    parts = [ReservedPart(part, os.urandom(16 * _PART), bytes(_PART)) for part in range(devices // _PART)]
    run = LedgerRun("0" * 32, "/o", "m", "0" * 64, "f", "local-ca", b"1", None, "n", "n", "n")
    try:
        began = time.perf_counter()
        number = ledger.reserve(run, parts, seen=ledger.look())
        held = time.perf_counter()
        for part in parts:
            ledger.record(
                number, IssuedPart(part.part, part.uuids, os.urandom(_SERIALS), os.urandom(32 * _PART)), "2026-11-23"
            )
        recorded = time.perf_counter()
        ledger.devices(os.urandom(16 * _LOOKED_UP))
        looked = time.perf_counter()
    finally:
        ledger.close()
    return {
        "hold_seconds_per_device": (held - began) / devices,
        "record_seconds_per_part": (recorded - held) / len(parts),
        "looked_at_per_second": devices / (looked - recorded),
        "octets_per_device": path.stat().st_size / devices,
    }


def _finished(workload: Workload, kind: str, devices: int, workers: int) -> Figures:
    """A run of a format: its last step, and what it leaves."""
    out = workload.folder / f"issued-{kind}"
    options = ["--manifest", str(workload.manifest(devices)), "--pki", str(workload.pki), "--out", str(out)]
    options += ["--format", kind, "--workers", str(workers), "--hardware-id", "bench", "--json", "-q"]
    figures, output = run_program(workload, "issue", *options)
    summary = json.loads(output)
    return {
        "bundle_octets_per_device": summary["octets"] / devices,
        "manifest_octets_per_device": Path(summary["manifest"]).stat().st_size / devices,
        "sums_octets_per_device": (out / "SHA256SUMS").stat().st_size / devices,
        "finish_seconds_per_device": summary["finish_seconds"] / devices,
        "parent_seconds_per_part": figures["parent_cpu_seconds"] / (devices / _PART),
    }


@click.command(context_settings={"max_content_width": 100})
@click.option("--devices", type=click.IntRange(_PART), default=500_000, show_default=True, help="Per measurement.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Of everything.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Processes.")
@click.option("--note", default="", help="What is to be known of the machine meanwhile, such as its load.")
@click.option("--results", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS, help="The results' file.")
def main(*, devices: int, rounds: int, workers: int, note: str, results: Path) -> None:
    """Measure what the simulation of a larger run needs; write results."""
    measured = []
    for number in range(1, rounds + 1):
        print(f"costs: round {number} of {rounds}", file=sys.stderr)
        with temporary_workload(fastest_folder()) as workload:
            measured.append(measure_costs(workload, devices, workers))
    settings = {"devices": devices, "rounds": rounds, "workers": workers, "note": note}
    date = datetime.now(UTC).date().isoformat()
    write(Results(date, describe_machine(fastest_folder()), {"costs": Section(settings, measured)}), results)
    print(json.dumps(Section(settings, measured).to_values()["summary"], indent=1))


if __name__ == "__main__":
    main()
