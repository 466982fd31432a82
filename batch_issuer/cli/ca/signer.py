"""`batch-issuer ca add-signer`: who signs outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from batch_issuer.cli.ca.backend import passphrase_option
from batch_issuer.cli.command import Command
from batch_issuer.cli.options import FOLDER

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["add_signer"]


@click.command("add-signer", cls=Command)
@click.argument("directory", metavar="DIR", type=FOLDER)
@click.option("--name", default="batch-signer", show_default=True, help="Its files in DIR, and its CN.")
@passphrase_option
def add_signer(*, directory: Path, name: str, ca_passphrase_file: Path | None) -> None:
    """Make a signer of outputs: a key of its own, certified by the root for signatures and nothing else.

    \b
      batch-issuer ca add-signer pki
      batch-issuer issue --manifest devices.csv --pki pki --out lot-7 --sign-with batch-signer

    No CA's key ever signs an output. Gateways know nothing of signers, so nothing is sent to the factory's API.
    """  # noqa: D301 - click's mark for "do not wrap" is the character, not its escape
    from datetime import UTC, datetime

    from batch_issuer.authority.layout import PkiDirectory
    from batch_issuer.ceremony.signer import add_signer as add
    from batch_issuer.cli.secrets import ca_passphrase

    pki = PkiDirectory(directory)
    add(pki, name=name, now=datetime.now(UTC), passphrase=ca_passphrase(ca_passphrase_file))
    click.echo(f"{pki.signer_certificate(name)} and its key are made; issue --sign-with {name} signs with it", err=True)
