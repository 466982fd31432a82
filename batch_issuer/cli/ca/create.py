"""`batch-issuer ca create`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from batch_issuer.cli.ca.backend import api_options, vendor_backend
from batch_issuer.cli.command import Command
from batch_issuer.cli.options import FILE, FOLDER, hsm_options

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.authority.tokens import Token

__all__ = ["create"]


@click.command(cls=Command)
@click.argument("directory", metavar="DIR", type=FOLDER)
@click.option("--factory", metavar="NAME", required=True, help="The factory: the OU of every certificate.")
@click.option("--gateway-host", metavar="HOST", help="DNS name of the device gateway; makes its certificate, tls-crt.")
@click.option("--ostree-host", metavar="HOST", help="DNS name of its ostree server, if that is another one.")
@click.option("--user-id", metavar="ID", help="The device CA's CN is fio-ID.  [default: the API's user, or local]")
@click.option("--local-ca/--no-local-ca", default=True, show_default=True, help="A device CA for manufacturing.")
@click.option(
    "--online-ca/--no-online-ca", default=True, show_default=True, help="A device CA for the gateway's owner."
)
@click.option("--encrypt-keys", is_flag=True, help="Encrypt factory_ca.key and local-ca.key under a passphrase.")
@click.option("--ca-passphrase-file", type=FILE, help="That passphrase; also $BATCH_ISSUER_CA_PASSPHRASE, or a prompt.")
@hsm_options
@click.option("--hsm-local-ca", is_flag=True, help="Make local-ca's key in the token, too.")
@api_options
def create(
    *,
    directory: Path,
    factory: str,
    gateway_host: str | None,
    ostree_host: str | None,
    user_id: str | None,
    local_ca: bool,
    online_ca: bool,
    encrypt_keys: bool,
    ca_passphrase_file: Path | None,
    token: Token | None,
    hsm_local_ca: bool,
    api: str | None,
    token_file: Path | None,
    api_ca: Path | None,
) -> None:
    """Make a root, device CAs below it and the gateway's certificate.

    \b
      batch-issuer ca create pki --factory acme
      batch-issuer ca create pki --factory acme --gateway-host gw.example.com --ostree-host ostree.example.com
      batch-issuer ca create pki --factory acme --api https://api.foundries.io --token-file token
      batch-issuer ca create pki --factory acme --hsm-module /usr/lib/softhsm/libsofthsm2.so --hsm-token-label acme

    A root is made once: nothing in DIR is ever written over. With a token, the root's key is made there, labelled
    root-ca, and never leaves it.
    """  # noqa: D301 - click's mark for "do not wrap" is the character, not its escape
    from datetime import UTC, datetime

    from batch_issuer.ceremony.create import create_pki
    from batch_issuer.cli.secrets import new_ca_passphrase

    if user_id == "":
        raise click.UsageError("--user-id must not be empty")
    if hsm_local_ca and (token is None or not local_ca):
        raise click.UsageError("--hsm-local-ca is for a local-ca, with --hsm-module and --hsm-token-label")
    if encrypt_keys and token is not None and (hsm_local_ca or not local_ca):
        raise click.UsageError("--encrypt-keys is for keys in files; all of these are in the token")
    if ca_passphrase_file is not None and not encrypt_keys:
        raise click.UsageError("--ca-passphrase-file is for --encrypt-keys")
    if api is not None and (gateway_host or ostree_host):
        raise click.UsageError("with --api, the API names the gateway's hosts: no --gateway-host, no --ostree-host")
    made = create_pki(
        directory,
        factory=factory,
        backend=None if api is None else vendor_backend(api, factory, token_file, api_ca),
        gateway_host=gateway_host,
        ostree_host=ostree_host,
        local_ca=local_ca,
        online_ca=online_ca,
        ca_common_name=None if user_id is None else f"fio-{user_id}",
        passphrase=new_ca_passphrase(ca_passphrase_file) if encrypt_keys else None,
        token=token,
        token_local_ca=hsm_local_ca,
        now=datetime.now(UTC),
    )
    click.echo(f"The PKI of factory {factory}:", err=True)
    for path in made:
        click.echo(f"  {path}", err=True)
    if token is None:
        click.echo("Back it up. Keep factory_ca.key offline: issuing needs only the device CA's key.", err=True)
    else:
        held = "the root's key, root-ca" + (", and local-ca's, local-ca" if hsm_local_ca else "")
        click.echo(f"The token {token.label} has {held}. Back up both: the directory, and the token.", err=True)
    if api is not None:
        click.echo("The factory's API has the certificates.", err=True)
    elif any(path.parent.name == "gateway" for path in made):
        click.echo("The gateway directory is for the gateway's server alone, with tls-crt and online-crt.", err=True)
