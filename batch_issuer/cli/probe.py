"""`batch-issuer gateway probe`: every bundle's real request."""

from __future__ import annotations

import click

from batch_issuer.cli.command import Command

__all__ = ["probe"]


@click.command(cls=Command)
def probe() -> None:
    """To be written."""
