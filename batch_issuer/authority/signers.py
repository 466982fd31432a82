"""What a CA signs with: sources of signatures that travel to a worker process and are opened there."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NoReturn, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)

from batch_issuer.authority.layout import pem_labels, read_file
from batch_issuer.errors import AuthorityError
from batch_issuer.figures import listed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from batch_issuer.files import Octets

__all__ = [
    "FileKey",
    "Passphrase",
    "SignerSource",
    "SigningKey",
    "check_new_passphrase",
    "check_pair",
    "is_encrypted",
    "read_key",
]

_KEY_LABELS = ("EC PRIVATE KEY", "PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
SHORTEST_PASSPHRASE = 12
"""Characters of a passphrase under which a CA's key is written."""

LONGEST_PASSPHRASE = 1023
"""Its octets: OpenSSL reads no more from a prompt."""

_HOW_TO_DECRYPT = "give its passphrase by --ca-passphrase-file or $BATCH_ISSUER_CA_PASSPHRASE"


class Passphrase(Protocol):
    """Where the passphrase of an encrypted key comes from; asked only if there is one to decrypt."""

    def __call__(self, file_name: str, /) -> bytes:
        """The passphrase of the key file `file_name`."""


class SignerSource(Protocol):
    """A CA's key, wherever it is. Picklable; every process opens it for itself."""

    def open(self) -> Callable[[bytes], bytes]:
        """A function that gives the DER `ECDSA-Sig-Value` over the SHA-256 of its argument (RFC 5758 section 3.2)."""


@dataclass(frozen=True, slots=True)
class FileKey:
    """A P-256 key out of a file, already decrypted.

    Attributes:
        der: the key, SEC1 or PKCS#8. Not shown by repr.
    """

    der: bytes = field(repr=False)

    @classmethod
    def of(cls, key: ec.EllipticCurvePrivateKey) -> FileKey:
        """The source that signs with `key`."""
        return cls(key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()))

    def open(self, *, deterministic: bool = False) -> Callable[[bytes], bytes]:
        """The signing function of this key.

        Args:
            deterministic: nonces by RFC 6979, so that the same data gives the same signature: for comparing
                certificates octet by octet.
        """
        # Nonces are random otherwise. OpenSSL makes each of fresh randomness together with the private key and the
        # message's digest (BN_generate_dsa_nonce), so even a random generator that repeats itself, as in a cloned
        # virtual machine, gives no two messages the same nonce, which is what would give the key away.
        key = load_der_private_key(self.der, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise AuthorityError("a CA's key must be on the curve P-256; it is not")
        algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=deterministic)
        return partial(key.sign, signature_algorithm=algorithm)


class SigningKey(ec.EllipticCurvePrivateKey):
    """A CA's key for the library's certificate and revocation list builders: it signs, and nothing else.

    Args:
        source: what signs.
        public_key: the key that verifies it.
    """

    def __init__(self, source: SignerSource, public_key: ec.EllipticCurvePublicKey) -> None:
        self._sign = source.open()
        self._public_key = public_key

    def sign(self, data: Octets, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """The ECDSA signature over the SHA-256 of `data`, which is what the builders here ask for."""
        assert isinstance(signature_algorithm.algorithm, hashes.SHA256)  # noqa: S101 - a mistake in this package
        return self._sign(bytes(data))

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The key that verifies."""
        return self._public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        """P-256."""
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        """Bits of the curve."""
        return self._public_key.key_size

    def exchange(self, *_: object) -> NoReturn:
        """Never: a CA's key signs, and nothing else."""
        raise NotImplementedError

    def private_numbers(self) -> NoReturn:
        """Never: a CA's key signs, and nothing else."""
        raise NotImplementedError

    def private_bytes(self, *_: object) -> NoReturn:
        """Never: a CA's key signs, and nothing else."""
        raise NotImplementedError

    def __copy__(self) -> SigningKey:
        return self

    def __deepcopy__(self, _memo: object) -> SigningKey:
        return self


def check_pair(key_name: str, key: SignerSource, file: str, public_key: ec.EllipticCurvePublicKey) -> None:
    """What `key` signs verifies with the public key of the certificate `file`.

    By a trial signature and not by comparing public keys: what counts is what the source will sign with, and a token
    does not have to show a public key.

    Raises:
        AuthorityError: it does not.
    """
    trial = b"batch-issuer: does this key belong to this certificate?"
    try:
        public_key.verify(key.open()(trial), trial, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise AuthorityError(
            f"{key_name} must be the key of {file}; its signature does not verify with that certificate"
        ) from None


def check_new_passphrase(passphrase: bytes) -> bytes:
    """The passphrase, if it is long enough to stand against guessing: the key file derives its key by 2,048 rounds.

    Raises:
        AuthorityError: it is shorter, or longer than OpenSSL reads.
    """
    characters = len(passphrase.decode(errors="replace"))
    if characters < SHORTEST_PASSPHRASE:
        raise AuthorityError(
            f"a passphrase for CA keys must have at least {SHORTEST_PASSPHRASE} characters; it has {characters}",
            hint="take some random words, or `openssl rand -base64 18`",
        )
    if len(passphrase) > LONGEST_PASSPHRASE:
        raise AuthorityError(
            f"a passphrase for CA keys must have at most {LONGEST_PASSPHRASE} octets; it has {len(passphrase)}"
        )
    return passphrase


def is_encrypted(path: Path) -> bool:
    """Whether a key file needs a passphrase.

    Raises:
        AuthorityError: it cannot be read.
    """
    text, _ = read_file(path)
    return b"ENCRYPTED" in text


def read_key(path: Path, passphrase: Passphrase | None) -> tuple[FileKey, int]:
    """The P-256 key in a PEM file, and the file's mode.

    SEC1 and PKCS#8 are read, plain or encrypted, with or without the EC PARAMETERS block that openssl writes first.

    Args:
        path: the key file.
        passphrase: asked for the passphrase if the key is encrypted.

    Raises:
        AuthorityError: the file is not one such key, or it is encrypted and the passphrase is missing or wrong.
    """
    text, mode = read_file(path)
    labels = [label for label in pem_labels(text) if label != "EC PARAMETERS"]
    if len(labels) != 1 or labels[0] not in _KEY_LABELS:
        found = listed(labels)
        raise AuthorityError(f"{path.name} must hold one PEM private key; its PEM blocks are: {found}")
    key = _decode(path, text, passphrase)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        kind = key.curve.name if isinstance(key, ec.EllipticCurvePrivateKey) else type(key).__name__
        raise AuthorityError(f"{path.name} must be a P-256 key; it is {kind}")
    return FileKey.of(key), mode


def _decode(path: Path, text: bytes, passphrase: Passphrase | None) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(text, None)
    except TypeError:  # what the library says of an encrypted key, and of nothing else
        return _decrypt(path, text, passphrase)
    except (ValueError, UnsupportedAlgorithm):
        raise AuthorityError(f"{path.name} is not a readable private key") from None


def _decrypt(path: Path, text: bytes, passphrase: Passphrase | None) -> PrivateKeyTypes:
    if passphrase is None:
        raise AuthorityError(f"{path.name} is encrypted and no passphrase was given", hint=_HOW_TO_DECRYPT) from None
    try:
        return load_pem_private_key(text, passphrase(path.name))
    except (TypeError, ValueError, UnsupportedAlgorithm):  # a TypeError for the empty one
        raise AuthorityError(
            f"{path.name} cannot be decrypted with the passphrase that was given", hint=_HOW_TO_DECRYPT
        ) from None
