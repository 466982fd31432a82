"""Where secrets come from: a file, the environment or a prompt; never an argument, which every user could see."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from batch_issuer.errors import AuthorityError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from batch_issuer.bundles.recipients import AgeIdentities

__all__ = ["api_token", "ca_passphrase", "hsm_pin", "identities_of", "new_ca_passphrase", "p12_password"]

_PASSPHRASE_VARIABLE = "BATCH_ISSUER_CA_PASSPHRASE"  # noqa: S105 - the name of a variable
_P12_VARIABLE = "BATCH_ISSUER_P12_PASSWORD"
_PIN_VARIABLE = "BATCH_ISSUER_HSM_PIN"
_TOKEN_VARIABLE = "BATCH_ISSUER_TOKEN"  # noqa: S105 - the name of a variable


def ca_passphrase(file: Path | None) -> Callable[[str], bytes]:
    """Gives the passphrase of an encrypted CA key when it is asked for: out of `file`, the environment or a prompt.

    It asks once, whatever the number of keys. The function raises AuthorityError when there is none of these, or `file`
    cannot be read.
    """
    known: list[bytes] = []

    def passphrase(key_file: str) -> bytes:
        if known:
            return known[0]
        secret = _secret(file, _PASSPHRASE_VARIABLE, f"Passphrase of {key_file}", "passphrase")
        if secret is None:
            raise AuthorityError(
                f"the CA's key {key_file} is encrypted, and there is no passphrase",
                hint=f"give it by --ca-passphrase-file or ${_PASSPHRASE_VARIABLE}",
            )
        known.append(secret)
        return secret

    return passphrase


def new_ca_passphrase(file: Path | None) -> bytes:
    """A passphrase for keys that are to be made: out of `file`, the environment or a prompt that asks twice.

    Raises:
        AuthorityError: there is none of these, or `file` cannot be read.
    """
    secret = _secret(file, _PASSPHRASE_VARIABLE, "Passphrase for the CA keys", "passphrase", confirm=True)
    if secret is None:
        raise AuthorityError(
            "CA keys are to be encrypted, and there is no passphrase",
            hint=f"give it by --ca-passphrase-file or ${_PASSPHRASE_VARIABLE}",
        )
    return secret


def hsm_pin(file: Path | None) -> Callable[[str], str]:
    """Gives the PIN of a token when it is asked for: out of `file`, the environment or a prompt; it asks once.

    The environment's is taken out of it here and now: what this process starts, a library of a token's maker too, does
    not inherit it. The function raises AuthorityError when there is none of these, `file` cannot be read, or the PIN
    cannot be one: what is refused here does not count as a try.
    """
    known: list[str] = []
    inherited = os.environ.pop(_PIN_VARIABLE, None)

    def pin(token_label: str) -> str:
        if known:
            return known[0]
        if file is None and inherited is not None:
            secret: bytes | None = inherited.encode(errors="surrogateescape")
        else:
            secret = _secret(file, _PIN_VARIABLE, f"PIN of the token {token_label}", "PIN")
        if secret is None:
            raise AuthorityError(
                f"the token {token_label!r} needs a PIN, and there is none",
                hint=f"give it by --hsm-pin-file or ${_PIN_VARIABLE}",
            )
        known.append(_checked_pin(secret, token_label))
        return known[0]

    return pin


def _checked_pin(secret: bytes, token_label: str) -> str:
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        text = ""
    if not text or "\0" in text or "\n" in text:
        raise AuthorityError(
            f"the PIN of the token {token_label!r} must be one line of UTF-8, and not empty; it is not"
        )
    return text


def p12_password(file: Path | None, *, new: bool = False) -> Callable[[], bytes]:
    """Gives the password of a run's PKCS#12 bundles when it is asked for: out of `file`, the environment or a prompt.

    Args:
        file: its file.
        new: whether bundles are to be made with it: then a prompt asks twice.

    It asks once. The function raises RefusedError when there is none of these, AuthorityError when `file` cannot be
    read.
    """
    known: list[bytes] = []

    def password() -> bytes:
        if not known:
            what = "Password for the PKCS#12 bundles" if new else "Password of the PKCS#12 bundles"
            secret = _secret(file, _P12_VARIABLE, what, "password", confirm=new)
            if not secret:
                hint = f"give it by --p12-password-file or ${_P12_VARIABLE}"
                if new:
                    hint += ", or have one made for each device by --p12-random-passwords"
                raise RefusedError("PKCS#12 bundles need a password, and there is none", hint=hint)
            known.append(secret)
        return known[0]

    return password


def api_token(file: Path | None) -> str:
    """The token for the factory's API: out of `file`, the environment or a prompt.

    Raises:
        RefusedError: there is none, or it is not printable ASCII, which is all that a header can carry.
    """
    from batch_issuer.factory_api.token import check_token

    secret = _secret(file, _TOKEN_VARIABLE, "Token for the factory's API", "token")
    if not secret:
        raise RefusedError(
            "the factory's API needs a token, and there is none", hint=f"give it by --token-file or ${_TOKEN_VARIABLE}"
        )
    token = secret.decode(errors="replace")
    check_token(token)
    return token


def identities_of(files: Sequence[Path], warn: Callable[[str], None]) -> AgeIdentities | None:
    """What opens sealed bundles, out of `files`; None of none. `warn` is told of files that others can read.

    Raises:
        RefusedError: a file cannot be read, or has no identity that can be used.
    """
    from batch_issuer.bundles.recipients import read_identities
    from batch_issuer.core_dumps import forbid_core_dumps

    if files:
        forbid_core_dumps()
    identities, warnings = read_identities(files)
    for warning in warnings:
        warn(warning)
    return identities


def _secret(file: Path | None, variable: str, prompt: str, what: str, *, confirm: bool = False) -> bytes | None:
    from batch_issuer.core_dumps import forbid_core_dumps

    forbid_core_dumps()
    if file is not None:
        try:
            return file.read_bytes().removesuffix(b"\n").removesuffix(b"\r")
        except OSError as error:
            raise AuthorityError(f"the {what} file {file} cannot be read: {error.strerror}") from None
    if variable in os.environ:
        return os.environ[variable].encode(errors="surrogateescape")
    if sys.stdin.isatty():
        prompted: str = click.prompt(prompt, hide_input=True, err=True, confirmation_prompt=confirm)
        return prompted.encode()
    return None
