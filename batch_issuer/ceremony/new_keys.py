"""A CA's new key: made in memory and written to a file of the directory, or made in a token, which it never leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec

from batch_issuer.authority.layout import write_key
from batch_issuer.authority.signers import FileKey, is_encrypted, read_key
from batch_issuer.authority.tokens import ROOT_LABEL
from batch_issuer.errors import AuthorityError

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.authority.layout import PkiDirectory
    from batch_issuer.authority.signers import Passphrase, SignerSource
    from batch_issuer.authority.tokens import Token, TokenKey

__all__ = ["NewKey", "free_label", "new_key", "passphrase_of_keys"]


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was made.

    Attributes:
        source: what signs. Not shown by repr.
        public: what verifies.
        private: what is to be written; None in a token. Not shown by repr.
    """

    source: SignerSource = field(repr=False)
    public: ec.EllipticCurvePublicKey
    private: ec.EllipticCurvePrivateKey | None = field(repr=False)

    def write(self, path: Path, passphrase: bytes | None) -> bool:
        """Create its file, durable; whether there is one, which there is not of a key in a token.

        Raises:
            OSError: as `files.write_new`.
        """
        if self.private is None:
            return False
        write_key(path, self.private, passphrase)
        return True


def new_key(place: TokenKey | None) -> NewKey:
    """Make a P-256 key: in the token, or in memory without one.

    Raises:
        AuthorityError: the token has a key of that label.
        RunFailedError: the token fails.
    """
    if place is not None:
        return NewKey(place, place.make(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    return NewKey(FileKey.of(key), key.public_key(), key)


def free_label(token: Token | None, name: str) -> TokenKey:
    """Where a device CA's key is to be made: in the token, which has no key of that label.

    Raises:
        AuthorityError: it has, there is no token, or the name is the root's there.
        RunFailedError: the token fails.
    """
    if token is None:
        raise AuthorityError("a key is to be made in a token, and no token was named")
    if name == ROOT_LABEL:
        raise AuthorityError(
            f"a device CA whose key is in a token cannot be called {name}: there it is the root's label",
            hint="--local-ca-filename names another",
        )
    key = token.key(name)
    key.check_free()
    return key


def passphrase_of_keys(pki: PkiDirectory, passphrase: Passphrase | None) -> bytes | None:
    """What a new key is encrypted under: as the root's is; if that is in a token, as those of the device CAs are.

    Proven on a key that is there. None if that is in the clear, or there is none.

    Raises:
        AuthorityError: the passphrase is missing or wrong.
    """
    keys = [pki.root_key] if pki.root_key.exists() else sorted(pki.path.glob("*.key"))
    encrypted = next(filter(is_encrypted, keys), None)
    if encrypted is None or passphrase is None:
        return None
    read_key(encrypted, passphrase)
    return passphrase(encrypted.name)
