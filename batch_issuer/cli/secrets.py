"""Where passphrases come from: a file, the environment or a prompt; never an argument, which every user could see."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from batch_issuer.errors import AuthorityError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["ca_passphrase"]

_VARIABLE = "BATCH_ISSUER_CA_PASSPHRASE"


def ca_passphrase(file: Path | None) -> Callable[[str], bytes]:
    """Gives the passphrase of an encrypted CA key when it is asked for: out of `file`, the environment or a prompt.

    The function raises AuthorityError when there is none of these, or `file` cannot be read.
    """

    def passphrase(key_file: str) -> bytes:
        if file is not None:
            try:
                return file.read_bytes().removesuffix(b"\n").removesuffix(b"\r")
            except OSError as error:
                raise AuthorityError(f"the passphrase file {file} cannot be read: {error.strerror}") from None
        if _VARIABLE in os.environ:
            return os.environ[_VARIABLE].encode()
        if sys.stdin.isatty():
            prompted: str = click.prompt(f"Passphrase of {key_file}", hide_input=True, err=True)
            return prompted.encode()
        raise AuthorityError(
            f"the CA's key {key_file} is encrypted, and there is no passphrase",
            hint=f"give it by --ca-passphrase-file or ${_VARIABLE}",
        )

    return passphrase
