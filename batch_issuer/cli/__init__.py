"""The command line: options in, one call, one summary out."""

from __future__ import annotations

import sys

import click

from batch_issuer import __version__
from batch_issuer.cli.bench import bench
from batch_issuer.cli.ca import ca
from batch_issuer.cli.command import Group
from batch_issuer.cli.export import export
from batch_issuer.cli.extract import extract
from batch_issuer.cli.gateway import gateway
from batch_issuer.cli.issue import issue
from batch_issuer.cli.ledger import ledger
from batch_issuer.cli.lint import lint
from batch_issuer.cli.register import register
from batch_issuer.cli.verify import verify

__all__ = ["main"]

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_EXAMPLES = """\b
Examples:
  batch-issuer ca create pki --factory acme --gateway-host gw.acme.example
  batch-issuer issue --manifest devices.csv --pki pki --out issued --hardware-id imx8mm
  batch-issuer issue --manifest devices.parquet --format parquet --out issued
  batch-issuer verify issued --pki pki
  batch-issuer extract issued 5a1c6b9e-8f3d-4f0a-9a55-0c1d2e3f4a5b --to /mnt/sota
"""


@click.group(cls=Group, epilog=_EXAMPLES, context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="batch-issuer")
def cli() -> None:
    """Device certificates by the million.

    A manifest of device UUIDs goes in; for every device a P-256 key, a certificate signed by the factory's local-ca
    and a ready bundle come out. Exactly once: kill it, run it again with --resume, and nothing is lost or doubled.
    """


for command in (issue, verify, extract, register, export, lint, ca, gateway, ledger, bench):
    cli.add_command(command)


def main() -> None:
    """The console script."""
    sys.exit(cli.main(prog_name="batch-issuer"))
