"""CA keys in a PKCS#11 token: named by their label, opened by every process for itself, never out of it.

A CA's key is a file of the PKI directory or a key in a token. Where the file is, it is used; where it is not, the token
is asked, if one was named. So a root in a token goes with device CAs in files, as fioctl has it, and the other way
round, and nobody is asked for a PIN that is not needed.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from batch_issuer.authority.signers import check_pair, read_key
from batch_issuer.errors import AuthorityError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pkcs11
    from cryptography.hazmat.primitives.asymmetric import ec

    from batch_issuer.authority.signers import Passphrase, SignerSource

__all__ = ["ROOT_LABEL", "FoundKey", "Pin", "Token", "TokenKey", "find_key"]

ROOT_LABEL = "root-ca"
"""What the root's key is called in a token, as fioctl has it; a device CA's has the CA's name."""

_OTHERS = 0o077
"""Mode bits of everybody but the owner."""


class Pin(Protocol):
    """Where a token's PIN comes from; asked only if the token is."""

    def __call__(self, token_label: str, /) -> str:
        """The PIN of the token's user."""


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A P-256 key in a token. Picklable; a worker gets it, PIN included, through its pipe.

    Attributes:
        module: the PKCS#11 library of the token's maker, absolute.
        token: the token's label.
        label: the key's.
        pin: of the token's user. Not shown by repr.
    """

    module: Path
    token: str
    label: str
    pin: str = field(repr=False)

    def open(self) -> Callable[[bytes], bytes]:
        """The signing function of this key, by this process's session with the token.

        What is returned raises RunFailedError when the token fails or is gone.

        Raises:
            AuthorityError: there is no such module, token or key, more than one, or the token refuses the PIN.
            RunFailedError: the token fails.
        """
        from batch_issuer.authority import token_keys  # noqa: PLC0415 - python-pkcs11 is an extra

        return token_keys.signer(self.module, self._session(), self.label)

    def check_free(self) -> None:
        """Nothing in the token has this label.

        Raises:
            AuthorityError: something has; or as `open`.
            RunFailedError: the token fails.
        """
        from batch_issuer.authority import token_keys  # noqa: PLC0415 - python-pkcs11 is an extra

        if token_keys.has_key(self._session(), self.label):
            raise AuthorityError(
                f"the token {self.token!r} has a key labelled {self.label!r} already, and no key is made over another",
                hint="name another token; or, only if a command was stopped before it wrote a certificate for this "
                f"key, take it away: `{self._removal()}`, and the same with --type pubkey",
            )

    def make(self) -> ec.EllipticCurvePublicKey:
        """Make the key in the token: P-256, not extractable, for signing only; returns its public key.

        Raises:
            AuthorityError: as `check_free`; or what it signs does not verify with its public key.
            RunFailedError: the token fails, or makes no such keys.
        """
        from batch_issuer.authority import token_keys  # noqa: PLC0415 - python-pkcs11 is an extra

        self.check_free()
        public_key = token_keys.generate_key(self._session(), self.label)
        check_pair(f"the key {self.label!r} in the token {self.token!r}", self, "its public half there", public_key)
        return public_key

    def _removal(self) -> str:
        words = ("pkcs11-tool", "--module", str(self.module), "--token-label", self.token, "--login")
        return shlex.join((*words, "--delete-object", "--label", self.label, "--type", "privkey"))

    def _session(self) -> pkcs11.Session:
        from batch_issuer.authority.token_session import open_session  # noqa: PLC0415 - python-pkcs11 is an extra

        return open_session(self.module, self.token, self.pin)


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was named, and how to ask for its PIN.

    Attributes:
        module: the PKCS#11 library of the token's maker, absolute.
        label: the token's.
        pin: asked when a key of the token is needed.
    """

    module: Path
    label: str
    pin: Pin = field(repr=False)

    def key(self, label: str) -> TokenKey:
        """The key of that label, whether it is there or is to be made.

        Raises:
            AuthorityError: there is no such module, or no PIN.
        """
        if not self.module.is_file():  # before anybody is asked for a PIN
            raise AuthorityError(f"the PKCS#11 module {self.module} is not there")
        return TokenKey(self.module, self.label, label, self.pin(self.label))


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A CA's key.

    Attributes:
        source: what signs.
        name: what an error calls it.
        warnings: sentences about what is allowed and not right.
    """

    source: SignerSource
    name: str
    warnings: tuple[str, ...] = ()


def find_key(path: Path, label: str, *, passphrase: Passphrase | None, token: Token | None) -> FoundKey | None:
    """A CA's key: the file `path` if it is there, else the key `label` of the token; None without either.

    Args:
        path: the key file's place in the PKI directory.
        label: the key's in a token.
        passphrase: asked with the key's file name, if that is encrypted.
        token: where to look if there is no file; None for nowhere.

    Raises:
        AuthorityError: the file is not one P-256 key, or its passphrase or the token's PIN is missing or wrong.
    """
    if path.exists():
        key, mode = read_key(path, passphrase)
        warnings = []
        if mode & _OTHERS:
            warnings.append(f"{path.name} must be its owner's alone, mode 0400; it has mode {mode:04o}")
        if token is not None:
            warnings.append(
                f"{path.name} is in the directory, so it signs, and the token {token.label!r} was not asked"
            )
        return FoundKey(key, path.name, tuple(warnings))
    if token is not None:
        return FoundKey(token.key(label), f"the key {label!r} in the token {token.label!r}")
    return None
