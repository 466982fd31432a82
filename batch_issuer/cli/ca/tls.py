"""`batch-issuer ca rotate-tls` and `ca sign`: what else the root signs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from batch_issuer.cli.ca.backend import api_options, chosen_backend, passphrase_option
from batch_issuer.cli.command import Command, tell_result
from batch_issuer.cli.options import FILE, FOLDER, hsm_options

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.authority.tokens import Token

__all__ = ["rotate_tls", "sign"]


@click.command("rotate-tls", cls=Command)
@click.argument("directory", metavar="DIR", type=FOLDER)
@click.option("--gateway-host", metavar="HOST", help="A new DNS name of the gateway.  [default: as it is]")
@click.option("--ostree-host", metavar="HOST", help="A new DNS name of its ostree server.")
@hsm_options
@api_options
@passphrase_option
def rotate_tls(
    *,
    directory: Path,
    gateway_host: str | None,
    ostree_host: str | None,
    token: Token | None,
    api: str | None,
    token_file: Path | None,
    api_ca: Path | None,
    ca_passphrase_file: Path | None,
) -> None:
    """Give the device gateway a new key and certificate; devices trust the root and notice nothing."""
    from datetime import UTC, datetime

    from batch_issuer.authority.layout import PkiDirectory, backup_of
    from batch_issuer.ceremony.rotate import rotate_tls as rotate
    from batch_issuer.cli.secrets import ca_passphrase

    if api is not None and (gateway_host or ostree_host):
        raise click.UsageError("with --api, the API names the gateway's hosts: no --gateway-host, no --ostree-host")
    pki = PkiDirectory(directory)
    backend = chosen_backend(pki, api, token_file, api_ca, gateway_host=gateway_host, ostree_host=ostree_host)
    passphrase = ca_passphrase(ca_passphrase_file)
    certificate = rotate(pki, backend, now=datetime.now(UTC), passphrase=passphrase, token=token)
    path = pki.tls_certificate
    click.echo(f"{path} is new, until {certificate.not_valid_after_utc:%Y-%m-%d}", err=True)
    click.echo(f"{backup_of(path).name} is the one before, if there was one", err=True)


@click.command(cls=Command)
@click.argument("csr", metavar="CSR", type=FILE)
@click.option("--pki-dir", type=FOLDER, required=True, help="The PKI directory with the root's key.")
@hsm_options
@passphrase_option
def sign(*, csr: Path, pki_dir: Path, token: Token | None, ca_passphrase_file: Path | None) -> None:
    """Sign a certificate signing request by the root; the certificate goes to stdout.

    \b
      batch-issuer ca sign est.csr --pki-dir pki > est.pem

    A device CA's certificate if CSR asks for CA:TRUE, a server's otherwise.
    """  # noqa: D301 - click's mark for "do not wrap" is the character, not its escape
    from datetime import UTC, datetime

    from cryptography.hazmat.primitives.serialization import Encoding

    from batch_issuer.authority.hierarchy import sign_request
    from batch_issuer.authority.layout import read_file
    from batch_issuer.authority.requests import read_request
    from batch_issuer.authority.root import load_root
    from batch_issuer.cli.secrets import ca_passphrase

    now = datetime.now(UTC)
    text, _ = read_file(csr)
    request = read_request(text, csr.name)
    root = load_root(pki_dir, now=now, passphrase=ca_passphrase(ca_passphrase_file), token=token)
    certificate = sign_request(root, request, csr.name, now=now)
    tell_result(certificate.public_bytes(Encoding.PEM).removesuffix(b"\n"))
