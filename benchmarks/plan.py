"""`python -m benchmarks.plan`: what the plan alone takes, of manifests in which two rows repeat others' UUIDs.

Of one of them the other is the row before it, of the other it is almost at the manifest's other end. Each manifest is
planned by the real program as a dry run, which must find just these two; they end it before it asks whether there is
room for so many bundles.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pyarrow as pa
import pyarrow.parquet as pq

from batch_issuer.benchmark.machine import describe_machine
from batch_issuer.benchmark.workload import fastest_folder, temporary_workload
from batch_issuer.cli.options import SIZE
from batch_issuer.columns import fixed_text_column
from batch_issuer.devices import UUID_LENGTH
from batch_issuer.errors import RunFailedError
from benchmarks.results import Results, write
from benchmarks.sections import Section

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batch_issuer.benchmark.figures import Figures
    from batch_issuer.benchmark.workload import Workload

__all__ = ["KINDS", "main", "measure", "plan_figures", "write_manifest"]

RESULTS = Path(__file__).parent / "results" / "plan.json"
KINDS = ("csv", "parquet", "octets")
"""CSV; Parquet with UUIDs as text; Parquet with UUIDs of 16 octets."""

_STEP = 500_000
_SEED = 2026
_NEAR = 10
_FAR = 6


def write_manifest(path: Path, kind: str, rows: int) -> list[int]:
    """Write a manifest of at least 20 rows, of random UUIDs; returns the rows that repeat another's UUID."""
    if kind == "csv":
        with path.open("wb") as file:
            file.write(b"device_uuid\n")
            for octets in _pieces(rows):
                file.write(b"\n".join(_texts(octets)) + b"\n")
    else:
        kept = pa.string() if kind == "parquet" else pa.binary(16)
        with pq.ParquetWriter(path, pa.schema([("device_uuid", kept)]), use_dictionary=False) as writer:
            for octets in _pieces(rows):
                writer.write_table(pa.table({"device_uuid": _column(octets, kept)}))
    return [_NEAR + 2, rows]


def _pieces(rows: int) -> Iterator[bytes]:
    source = random.Random(_SEED)  # noqa: S311 - names of devices, the same every time; nothing secret
    first = b""
    for start in range(0, rows, _STEP):
        count = min(_STEP, rows - start)
        octets = bytearray(source.randbytes(16 * count))
        if not start:
            octets[16 * (_NEAR + 1) : 16 * (_NEAR + 2)] = octets[16 * _NEAR : 16 * (_NEAR + 1)]
            first = bytes(octets[16 * _FAR : 16 * (_FAR + 1)])
        if start + count == rows:
            octets[-16:] = first
        yield bytes(octets)


def _texts(octets: bytes) -> list[bytes]:
    digits = octets.hex().encode()
    cells = [digits[start : start + 32] for start in range(0, len(digits), 32)]
    return [b"%b-%b-%b-%b-%b" % (t[:8], t[8:12], t[12:16], t[16:20], t[20:]) for t in cells]


def _column(octets: bytes, kept: pa.DataType) -> pa.Array:
    if kept == pa.string():
        return fixed_text_column(b"".join(_texts(octets)), UUID_LENGTH)
    return pa.Array.from_buffers(kept, len(octets) // 16, [None, pa.py_buffer(octets)])


def plan_figures(workload: Workload, kind: str, rows: int, memory: int) -> Figures:
    """Plan such a manifest; `wall_seconds`, `cpu_seconds`, `peak_octets` of the program's one process.

    Raises:
        RunFailedError: it failed, or did not find just the rows that repeat another's UUID.
    """
    manifest, report = workload.folder / f"plan-{rows}.{kind}", workload.folder / "report.json"
    wanted = write_manifest(manifest, kind, rows)
    try:
        arguments = ["issue", "--manifest", manifest, "--pki", workload.pki, "--out", workload.folder / "planned"]
        options = ["--hardware-id", "bench", "--dry-run", "--json", "--plan-memory", f"{memory // 1000}kB"]
        command = [sys.executable, "-m", "batch_issuer.benchmark.accounting", report, sys.executable, "-m"]
        ended = subprocess.run(
            [*map(str, (*command, "batch_issuer", *arguments, *options))], capture_output=True, text=True, check=False
        )
    finally:
        manifest.unlink()
    figures: Figures = json.loads(report.read_text("utf-8"))
    found = [rejection["row"] for rejection in json.loads(ended.stdout or "{}").get("rejections", [])]
    if figures["exit_code"] != 3 or found != wanted:
        raise RunFailedError(
            f"the plan of {manifest.name} found rows {found}, expected {wanted}: {ended.stderr[-300:]}"
        )
    return {
        "wall_seconds": figures["wall_seconds"],
        "cpu_seconds": figures["cpu_seconds"],
        "peak_octets": figures["parent_peak_octets"],
        "rows_per_second": rows / figures["wall_seconds"],
    }


@click.command(context_settings={"max_content_width": 100})
@click.option("--rows", type=click.IntRange(20), default=10_000_000, show_default=True, help="Of each manifest.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), default=KINDS, help="Of manifest.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Each measures every kind.")
@click.option("--plan-memory", "memory", type=SIZE, default="1GB", show_default=True, help="As of `issue`.")
@click.option("--note", default="", help="What is to be known of the machine meanwhile, such as its load.")
@click.option("--results", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS, help="The results' file.")
def main(*, rows: int, kinds: tuple[str, ...], rounds: int, memory: int, note: str, results: Path) -> None:
    """Measure validation and the look for duplicates; write results."""
    section = measure(kinds, rows, rounds, memory, lambda sentence: print(sentence, file=sys.stderr))
    section.settings["note"] = note
    date = datetime.now(UTC).date().isoformat()
    write(Results(date, describe_machine(fastest_folder()), {f"plan-{rows}": section}), results)
    for kind, figures in section.summary.items():
        print(
            f"{kind}: {figures['wall_seconds'].median:.1f} s ({figures['cpu_seconds'].median:.1f} s of CPU), "
            f"{figures['peak_octets'].highest / 1e6:,.0f} MB at most"
        )


def measure(kinds: tuple[str, ...], rows: int, rounds: int, memory: int, tell: Callable[[str], None]) -> Section:
    """Plan every kind of manifest in every round.

    Raises:
        RunFailedError: a plan failed, or found something else than it must.
    """
    measured = []
    with temporary_workload(fastest_folder()) as workload:
        for number in range(1, rounds + 1):
            tell(f"plan of {rows:,} rows: round {number} of {rounds}")
            measured.append({kind: plan_figures(workload, kind, rows, memory) for kind in kinds})
    return Section({"rows": rows, "rounds": rounds, "plan_memory": memory}, measured)


if __name__ == "__main__":
    main()
