"""`python -m benchmarks`: the long benchmark, the short one of CI, and the tables and the chart out of results."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from batch_issuer.benchmark.machine import describe_machine
from batch_issuer.benchmark.workload import fastest_folder, temporary_workload
from benchmarks.check import run_trials, trials_for
from benchmarks.goals import verdicts
from benchmarks.results import Results, newest, read, write
from benchmarks.sections import KINDS, Scale, measure_sections
from benchmarks.tables import markdown, update_readme

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
_LONG = (100_000, 5)
_SHORT = (20_000, 3)


@click.command(context_settings={"max_content_width": 100})
@click.option("--only", multiple=True, type=click.Choice(KINDS), help="Only this section; may be repeated.")
@click.option("--devices", type=click.IntRange(1), help="Per measurement.  [default: 100000; with --check 20000]")
@click.option("--rounds", type=click.IntRange(1), help="Of each section.  [default: 5; with --check 3]")
@click.option("--workers", type=click.IntRange(1), multiple=True, default=(1, 2), show_default=True, help="Processes.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where a temporary folder is made.  [default: /dev/shm, or where temporary files go]",
)
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    help="The results' folder.  [default: benchmarks/results]",
)
@click.option("--check", "short", is_flag=True, help="The short benchmark of CI: exit code 1 when a ratio is too low.")
@click.option(
    "--update-readme", "readme", is_flag=True, help="Measure nothing: put the newest results into README and chart."
)
def main(
    *,
    only: tuple[str, ...],
    devices: int | None,
    rounds: int | None,
    workers: tuple[int, ...],
    folder: Path | None,
    results: Path,
    short: bool,
    readme: bool,
) -> None:
    """Measure rates by format, growth, shell to shell, verification, handshakes; write results, tables, and a chart."""
    if readme:
        _update(results)
        return
    default_devices, default_rounds = _SHORT if short else _LONG
    scale = Scale(devices or default_devices, rounds or default_rounds, tuple(sorted(workers)))
    if short:
        _check(scale, folder or fastest_folder())
    else:
        _measure(scale, only or KINDS, folder or fastest_folder(), results)


def _measure(scale: Scale, kinds: tuple[str, ...], folder: Path, results: Path) -> None:
    date = datetime.now(UTC).date().isoformat()
    path = results / f"{date}.json"
    with temporary_workload(folder) as workload:
        measured = Results(date, describe_machine(workload.folder))
        for name, section in measure_sections(workload, scale, kinds, _tell):
            measured.sections[name] = section
            write(measured, path)  # what is measured is kept, whatever happens to the rest
    path.with_suffix(".md").write_text(markdown(measured), "utf-8")
    print(markdown(measured))
    print("\n".join(verdicts(measured)))
    print(f"\nwritten: {path} and .md; --update-readme puts them into the README, with the chart")


def _check(scale: Scale, folder: Path) -> None:
    with temporary_workload(folder) as workload:
        failures = run_trials(trials_for(workload, scale.devices, scale.rounds, scale.workers[-1]), _tell)
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if failures:
        sys.exit(1)


def _update(results: Path) -> None:
    path = newest(results)
    if path is None:
        raise click.ClickException(f"{results} holds no results: measure first")
    try:
        from benchmarks.chart import draw  # noqa: PLC0415 - matplotlib is an extra, and nothing else needs it
    except ImportError:
        raise click.ClickException("the chart needs matplotlib: pip install 'batch-issuer[bench]'") from None
    measured = read(path)
    try:
        draw(measured, ROOT / "docs" / "benchmark.png")
        update_readme(ROOT / "README.md", measured)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    print(f"README.md and docs/benchmark.png show {path.name}")


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr)


if __name__ == "__main__":
    main()
