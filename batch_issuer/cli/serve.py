"""`batch-issuer gateway serve`: a stand-in of the factory's servers."""

from __future__ import annotations

import click

from batch_issuer.cli.command import Command

__all__ = ["serve"]


@click.command(cls=Command)
def serve() -> None:
    """To be written."""
