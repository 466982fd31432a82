"""`batch-issuer gateway`: a stand-in of the factory's servers, and the proof of bundles against any of them."""

from __future__ import annotations

import click

from batch_issuer.cli.command import Group
from batch_issuer.cli.probe import probe
from batch_issuer.cli.serve import serve

__all__ = ["gateway"]


@click.group(cls=Group)
def gateway() -> None:
    """Rehearse with a stand-in of the factory's servers, and prove bundles against a device gateway."""


gateway.add_command(serve)
gateway.add_command(probe)
