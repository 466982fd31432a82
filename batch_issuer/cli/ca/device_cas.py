"""`batch-issuer ca add-device-ca` and `ca update`: the list of device CAs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from batch_issuer.cli.ca.backend import api_options, chosen_backend, passphrase_option
from batch_issuer.cli.command import Command
from batch_issuer.cli.options import FILE, FOLDER, hsm_options

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.authority.tokens import Token

__all__ = ["add_device_ca", "update"]


@click.command("add-device-ca", cls=Command)
@click.argument("directory", metavar="DIR", type=FOLDER)
@click.option("--local-ca", is_flag=True, help="Make a device CA whose key is yours.")
@click.option(
    "--local-ca-filename",
    metavar="FILE",
    default="local-ca.pem",
    show_default=True,
    help="Its certificate's file in DIR.",
)
@click.option("--user-id", metavar="ID", help="Its CN is fio-ID.  [default: the API's user, or the file's name]")
@click.option("--online-ca", is_flag=True, help="Sign a new online-ca; the one before stays in the list.")
@hsm_options
@click.option("--hsm-local-ca", is_flag=True, help="--local-ca, and its key is made in the token.")
@api_options
@passphrase_option
def add_device_ca(
    *,
    directory: Path,
    local_ca: bool,
    local_ca_filename: str,
    user_id: str | None,
    online_ca: bool,
    token: Token | None,
    hsm_local_ca: bool,
    api: str | None,
    token_file: Path | None,
    api_ca: Path | None,
    ca_passphrase_file: Path | None,
) -> None:
    """Add a device CA: one for each manufacturing site, so that a leak stays local.

    \b
      batch-issuer ca add-device-ca pki --local-ca --local-ca-filename site2.pem
      batch-issuer ca add-device-ca pki --online-ca --api https://api.foundries.io
    """  # noqa: D301 - click's mark for "do not wrap" is the character, not its escape
    from datetime import UTC, datetime

    from batch_issuer.authority.layout import PkiDirectory
    from batch_issuer.ceremony.device_cas import add_local_ca, add_online_ca
    from batch_issuer.cli.secrets import ca_passphrase

    if hsm_local_ca and token is None:
        raise click.UsageError("--hsm-local-ca is for a token: --hsm-module and --hsm-token-label")
    local_ca = local_ca or hsm_local_ca
    if not (local_ca or online_ca):
        raise click.UsageError("expected --local-ca or --online-ca")
    if user_id is not None and not (user_id and local_ca):
        raise click.UsageError("--user-id is for --local-ca, and must not be empty")
    pki = PkiDirectory(directory)
    backend = chosen_backend(pki, api, token_file, api_ca)
    passphrase, now = ca_passphrase(ca_passphrase_file), datetime.now(UTC)
    if local_ca:
        name = local_ca_filename.removesuffix(".pem")
        common_name = None if user_id is None else f"fio-{user_id}"
        add_local_ca(
            pki,
            backend,
            name=name,
            common_name=common_name,
            now=now,
            passphrase=passphrase,
            token=token,
            in_token=hsm_local_ca,
        )
        click.echo(f"{pki.ca_certificate(name)} and its key are made; issue --ca-name {name} signs with it", err=True)
    if online_ca:
        add_online_ca(pki, backend, now=now, passphrase=passphrase, token=token)
        click.echo(f"{pki.online_certificate} is new; devices of the one before may connect", err=True)


@click.command(cls=Command)
@click.argument("directory", metavar="DIR", type=FOLDER)
@click.argument("file", metavar="[FILE]", type=FILE, required=False)
@hsm_options
@api_options
@passphrase_option
def update(
    *,
    directory: Path,
    file: Path | None,
    token: Token | None,
    api: str | None,
    token_file: Path | None,
    api_ca: Path | None,
    ca_passphrase_file: Path | None,
) -> None:
    """Make the certificates in FILE the whole list of device CAs.

    \b
      batch-issuer ca show pki --just-device-cas > cas.pem
      batch-issuer ca update pki cas.pem

    Without FILE: finish a command that was interrupted, by sending the API what it does not know yet. A revoked CA in
    FILE is trusted again.
    """  # noqa: D301 - click's mark for "do not wrap" is the character, not its escape
    from datetime import UTC, datetime

    from batch_issuer.authority.layout import PkiDirectory, read_file
    from batch_issuer.ceremony.device_cas import replace_device_cas, send_all
    from batch_issuer.cli.secrets import ca_passphrase
    from batch_issuer.figures import counted

    pki = PkiDirectory(directory)
    backend = chosen_backend(pki, api, token_file, api_ca)
    passphrase, now = ca_passphrase(ca_passphrase_file), datetime.now(UTC)
    if file is None:
        cas = send_all(pki, backend, now=now, passphrase=passphrase, token=token)
    else:
        text, _ = read_file(file)
        cas = replace_device_cas(pki, backend, text, file.name, now=now, passphrase=passphrase, token=token)
    click.echo(f"{counted(len(cas), 'device CA')} in force", err=True)
