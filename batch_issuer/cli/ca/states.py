"""`batch-issuer ca disable-device-ca`, `enable-device-ca` and `revoke-device-ca`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import click

from batch_issuer.cli.ca.backend import api_options, chosen_backend, passphrase_option
from batch_issuer.cli.command import Command
from batch_issuer.cli.options import FOLDER, hsm_options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cryptography import x509

    from batch_issuer.authority.tokens import Token

__all__ = ["disable", "enable", "revoke"]

Function = TypeVar("Function", bound="Callable[..., object]")

_SERIAL_BITS = 160


class Serial(click.ParamType[int]):
    """A certificate's serial number in base 10, as the factory's API has it."""

    name = "serial"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        text = str(value)
        if not (
            text.isascii() and text.isdigit() and len(text) < _SERIAL_BITS and int(text).bit_length() <= _SERIAL_BITS
        ):
            self.fail(
                f"expected a serial number in base 10, of at most {_SERIAL_BITS} bits; got {text[:60]!r}", param, ctx
            )
        return int(text)


def _state_options(function: Function) -> Function:
    options = (
        click.argument("directory", metavar="DIR", type=FOLDER),
        click.option(
            "--ca-file", "files", metavar="NAME", multiple=True, help="A device CA's certificate file in DIR."
        ),
        click.option("--ca-serial", "serials", metavar="N", type=Serial(), multiple=True, help="Its serial, base 10."),
        click.option("--dry-run", is_flag=True, help="Only show the revocation list that would be sent."),
        click.option("--pretty", is_flag=True, help="Show it in words."),
        hsm_options,
        api_options,
        passphrase_option,
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command("disable-device-ca", cls=Command)
@_state_options
def disable(**options: object) -> None:
    """Let a device CA register no new devices; those it has go on.

    \b
      batch-issuer ca disable-device-ca pki --ca-file local-ca
      batch-issuer ca disable-device-ca pki --ca-serial 1234567890 --dry-run --pretty
    """  # noqa: D301 - click's mark for "do not wrap" is the character, not its escape
    from batch_issuer.authority.revocation import DISABLED

    _change(DISABLED, "disabled: its devices may connect, new ones are refused", **options)  # type: ignore[arg-type]


@click.command("enable-device-ca", cls=Command)
@_state_options
def enable(**options: object) -> None:
    """Let a disabled device CA register new devices again."""
    from batch_issuer.authority.revocation import ENABLED

    _change(ENABLED, "enabled", **options)  # type: ignore[arg-type]


@click.command("revoke-device-ca", cls=Command)
@_state_options
def revoke(**options: object) -> None:
    """Take a device CA out of the list: its devices can connect no more.

    Disable it first, give its devices new certificates, then revoke it. `ca update` with its certificate brings it
    back.
    """
    from batch_issuer.authority.revocation import REVOKED

    _change(REVOKED, "revoked: its devices can connect no more", **options)  # type: ignore[arg-type]


def _change(
    reason: x509.ReasonFlags,
    told: str,
    *,
    directory: Path,
    files: tuple[str, ...],
    serials: tuple[int, ...],
    dry_run: bool,
    pretty: bool,
    token: Token | None,
    api: str | None,
    token_file: Path | None,
    api_ca: Path | None,
    ca_passphrase_file: Path | None,
) -> None:
    from datetime import UTC, datetime

    from batch_issuer.authority.description import describe_crl
    from batch_issuer.authority.layout import PkiDirectory
    from batch_issuer.ceremony.revoke import change_state, serials_of
    from batch_issuer.cli.secrets import ca_passphrase

    pki = PkiDirectory(directory)
    chosen = serials_of(pki, files, serials)
    crl = change_state(
        pki,
        chosen_backend(pki, api, token_file, api_ca),
        chosen,
        reason,
        now=datetime.now(UTC),
        dry_run=dry_run,
        passphrase=ca_passphrase(ca_passphrase_file),
        token=token,
    )
    if dry_run:
        click.echo(crl, nl=False)
    if pretty:
        click.echo(describe_crl(crl))
    if not dry_run:
        for serial in chosen:
            click.echo(f"device CA {serial} is {told}", err=True)
