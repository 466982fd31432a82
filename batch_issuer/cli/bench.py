"""`batch-issuer bench`: this machine's speed beside its own floor."""

from __future__ import annotations

from pathlib import Path

import click

from batch_issuer.cli.command import Command
from batch_issuer.cli.options import json_option, verbosity_options, workers_option

__all__ = ["bench"]

_EXAMPLES = """\b
Examples:
  batch-issuer bench
  batch-issuer bench --devices 200000 --formats parquet,tar
  batch-issuer bench --dir /mnt/factory --formats dir --json > bench.json
"""


@click.command(cls=Command, epilog=_EXAMPLES)
@click.option(
    "--devices", type=click.IntRange(1, 10_000_000), default=20_000, show_default=True, help="In each measurement."
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="How often each is measured; the medians are shown.",
)
@workers_option
@click.option(
    "--dir",
    "folder",
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
    help="Where a temporary folder is made.  [default: /dev/shm, or where temporary files go]",
)
@click.option(
    "--formats", default="parquet,tar,dir", show_default=True, help="Which are issued end to end; also `tar sealed`."
)
@json_option
@verbosity_options
def bench(
    *,
    devices: int,
    rounds: int,
    workers: int,
    folder: Path | None,
    formats: str,
    as_json: bool,
    quiet: bool,
    verbose: bool,  # noqa: ARG001 - for the traceback of an error
) -> None:
    """Measure this machine: keys, certificates and whole runs per second, beside its own floor.

    The floor is key generation and one signature per device, in as many processes. Everything is measured in each
    round, so a ratio compares what ran within the same seconds. A PKI that nobody trusts is made for it, and
    everything is removed afterwards.
    """
    from batch_issuer.benchmark.figures import SEALED
    from batch_issuer.benchmark.machine import describe_machine
    from batch_issuer.benchmark.report import result_json, result_text
    from batch_issuer.benchmark.rounds import Plan, measure_rounds, names_of, spread_parts
    from batch_issuer.benchmark.workload import fastest_folder, temporary_workload
    from batch_issuer.bundles.format import bundle_format
    from batch_issuer.bundles.recipients import need_age

    kinds = tuple(dict.fromkeys(kind.strip() for kind in formats.split(",")))
    for kind in kinds:
        bundle_format(kind.removesuffix(SEALED))  # refuses what is not known
        if kind.endswith(SEALED):
            need_age()
    plan = Plan(devices, rounds, workers, names_of(kinds), spread_parts(devices, workers))

    def tell(sentence: str) -> None:
        if not quiet:
            click.echo(sentence, err=True)

    with temporary_workload(folder or fastest_folder()) as workload:
        machine = describe_machine(workload.folder)
        measured = measure_rounds(workload, plan, tell)
    click.echo(result_json(machine, plan, measured) if as_json else result_text(machine, plan, measured))
