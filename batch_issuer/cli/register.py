"""`batch-issuer register`: a run's devices at the factory's API, ahead of first contact."""

from __future__ import annotations

import click

from batch_issuer.cli.command import Command

__all__ = ["register"]


@click.command(cls=Command)
def register() -> None:
    """To be written."""
