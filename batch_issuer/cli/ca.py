"""`batch-issuer ca`: the factory's own PKI."""

from __future__ import annotations

from pathlib import Path

import click

from batch_issuer.cli.command import Group

__all__ = ["ca"]


@click.group(cls=Group)
def ca() -> None:
    """Make and look after the factory's certificate authorities."""


@ca.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--factory", metavar="NAME", required=True, help="The factory: the OU of every certificate.")
@click.option("--gateway-host", metavar="HOST", help="DNS name of the device gateway; makes its certificate, tls-crt.")
@click.option("--ostree-host", metavar="HOST", help="DNS name of its ostree server, if that is another one.")
@click.option("--user-id", metavar="ID", default="local", show_default=True, help="The device CA's CN is fio-ID.")
@click.option("--local-ca/--no-local-ca", default=True, show_default=True, help="Whether to make a device CA.")
def create(
    *, directory: Path, factory: str, gateway_host: str | None, ostree_host: str | None, user_id: str, local_ca: bool
) -> None:
    """Make a root, a device CA below it and the gateway's certificate.

    \b
      batch-issuer ca create pki --factory acme
      batch-issuer ca create pki --factory acme --gateway-host gw.example.com --ostree-host ostree.example.com

    A root is made once: nothing in DIR is ever written over.
    """  # noqa: D301 - click's mark for "do not wrap" is the character, not its escape
    from datetime import UTC, datetime

    from batch_issuer.authority.hierarchy import create_pki

    made = create_pki(
        directory,
        factory=factory,
        gateway_host=gateway_host,
        ostree_host=ostree_host,
        local_ca=local_ca,
        ca_common_name=f"fio-{user_id}",
        now=datetime.now(UTC),
    )
    click.echo(f"The PKI of factory {factory}:", err=True)
    for path in made:
        click.echo(f"  {path}", err=True)
    click.echo("Back it up. Keep factory_ca.key offline: issuing needs only the device CA's key.", err=True)
    if gateway_host is not None:
        click.echo("The gateway directory is for the gateway's server alone, with tls-crt.", err=True)
