"""`batch-issuer gateway serve`: a stand-in of the factory's servers."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from batch_issuer.cli.command import Command, tell_result
from batch_issuer.cli.options import FILE, FOLDER, token_file_option

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["serve"]

_PORT = click.IntRange(0, 65535)


@click.command(cls=Command)
@click.option("--data", type=FOLDER, required=True, help="The server's own folder: its keys and its database.")
@click.option("--factory", required=True, help="The factory's name, the organizational unit of its root.")
@token_file_option
@click.option("--pki", type=FOLDER, help="A standalone PKI directory to follow, instead of what the API is sent.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--gateway-port", type=_PORT, default=8443, show_default=True, help="The device gateway's; 0: any free.")
@click.option("--api-port", type=_PORT, default=8080, show_default=True, help="The API's; 0: any free.")
@click.option("--gateway-host", metavar="H", help="The DNS name that a request for tls-crt asks for.")
@click.option("--ostree-host", metavar="H", help="The ostree server's DNS name in it, if it is another one.")
@click.option("--allow-production", is_flag=True, help="Let devices that register online call themselves production.")
@click.option(
    "--ca-passphrase-file",
    type=FILE,
    help="The passphrase of an encrypted local-ca.key in --pki; also $BATCH_ISSUER_CA_PASSPHRASE, or a prompt.",
)
@click.option("-v", "--verbose", is_flag=True, help="A line for every request, and tracebacks.")
def serve(
    data: Path,
    *,
    factory: str,
    token_file: Path | None,
    pki: Path | None,
    host: str,
    gateway_port: int,
    api_port: int,
    gateway_host: str | None,
    ostree_host: str | None,
    allow_production: bool,
    ca_passphrase_file: Path | None,
    verbose: bool,
) -> None:
    """Rehearse against a stand-in of the factory's API and device gateway, on this machine.

    \b
    Examples:
      batch-issuer gateway serve --data rehearsal --factory acme --token-file token
      batch-issuer gateway serve --data rehearsal --factory acme --token-file token --pki pki

    A line of JSON on stdout says where both listen, once they do, and again when the device gateway comes up. The API
    is plain HTTP with one token; keys lie in the clear in --data. SIGTERM ends it, and a new start goes on from there.
    """  # noqa: D301 - click's mark for "do not wrap" is the character, not its escape
    from batch_issuer.cli.secrets import api_token, ca_passphrase
    from batch_issuer.extras import need_extra

    need_extra("gateway", "aiohttp", "tuf")
    from batch_issuer.gateway.start import Settings, serve_factory

    settings = Settings(
        data=data,
        factory=factory,
        token=api_token(token_file),
        pki=pki,
        host=host,
        api_port=api_port,
        gateway_port=gateway_port,
        gateway_host=gateway_host,
        ostree_host=ostree_host,
        allow_production=allow_production,
        verbose=verbose,
        passphrase=ca_passphrase(ca_passphrase_file),
    )
    serve_factory(settings, tell=tell_result, warn=_warn)


def _warn(sentence: str) -> None:
    with suppress(OSError):  # nobody reads it, and nothing that is served hangs on that
        click.echo(f"warning: {sentence}", err=True)
