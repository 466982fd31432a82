"""A CA's key that a worker on another machine finds by itself: what travels to it names the key and holds no secret."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from batch_issuer.authority.issuer import load_issuer
from batch_issuer.authority.tokens import TokenKey
from batch_issuer.errors import AuthorityError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["PathKey", "WorkerTokenKey"]

_PASSPHRASE_VARIABLE = "BATCH_ISSUER_CA_PASSPHRASE"  # noqa: S105 - the name of a variable
_PIN_VARIABLE = "BATCH_ISSUER_HSM_PIN"


@dataclass(frozen=True, slots=True)
class PathKey:
    """A key in a PKI directory that each worker's machine has at the same path.

    Attributes:
        pki: the directory, absolute.
        name: the device CA's.
        certificate: the run's, DER: that of the directory must be the same.
        passphrase_file: where the worker finds the passphrase of an encrypted key, absolute; None looks into its
            environment.
    """

    pki: Path
    name: str
    certificate: bytes
    passphrase_file: Path | None = None

    def open(self) -> Callable[[bytes], bytes]:
        """The signing function of the key, by all checks of `load_issuer`.

        Raises:
            AuthorityError: the directory is not there or not fit, or its CA is another than the run's.
        """
        issuer = load_issuer(self.pki, self.name, now=datetime.now(UTC), passphrase=self._passphrase)
        if issuer.certificate != self.certificate:
            raise AuthorityError(
                f"{self.name} of the PKI directory {self.pki} is another certificate than the run's",
                hint="bring that machine's directory up to date",
            )
        return issuer.key.open()

    def _passphrase(self, key_file: str) -> bytes:
        return _own_secret(self.passphrase_file, _PASSPHRASE_VARIABLE, f"the passphrase of {key_file}").encode()


@dataclass(frozen=True, slots=True)
class WorkerTokenKey:
    """A key in a PKCS#11 token that each worker reaches, with the PIN that it has itself.

    Attributes:
        module: the PKCS#11 library, absolute, on the worker's machine.
        token: the token's label.
        label: the key's.
        pin_file: where the worker finds the PIN, absolute; None looks into its environment.
    """

    module: Path
    token: str
    label: str
    pin_file: Path | None = None

    def open(self) -> Callable[[bytes], bytes]:
        """The signing function of the key.

        Raises:
            AuthorityError: as `TokenKey.open`, or there is no PIN.
            RunFailedError: the token fails.
        """
        if not self.module.is_file():
            raise AuthorityError(f"the PKCS#11 module {self.module} is not there")
        pin = _own_secret(self.pin_file, _PIN_VARIABLE, f"the PIN of the token {self.token!r}")
        return TokenKey(self.module, self.token, self.label, pin).open()


def _own_secret(file: Path | None, variable: str, what: str) -> str:
    if file is not None:
        try:
            text = file.read_text()
        except OSError as error:
            raise AuthorityError(f"{what} cannot be read from {file}: {error.strerror}") from None
        return text.removesuffix("\n").removesuffix("\r")
    if variable not in os.environ:
        raise AuthorityError(
            f"{what} is needed, and the worker has none",
            hint=f"name a file that it has, or set ${variable} where it is started",
        )
    return os.environ[variable]
