"""Device keys and the signatures of a key file: the engines that make them, behind one small seam."""

from __future__ import annotations

import re
from hashlib import sha256
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from batch_issuer.errors import RefusedError
from batch_issuer.extras import need_extra

if TYPE_CHECKING:
    from batch_issuer.devices import Sec1Der

__all__ = [
    "AUTO",
    "ENGINE_NAMES",
    "POINT_OFFSET",
    "SEC1_LENGTH",
    "KeyEngine",
    "OpenSSLKeys",
    "Signature",
    "choose_engine",
    "key_engine",
]

SEC1_LENGTH = 121
"""Octets of a P-256 SEC1 key with named curve and public key (RFC 5915)."""

POINT_OFFSET = 56
"""Where its uncompressed public point (65 octets, 0x04 first) begins: the key's last field."""


class Signature(Protocol):
    """The CA's half of minting: what signs a certificate, whether a key in memory or in a token."""

    def __call__(self, data: bytes, /) -> bytes:
        """The DER `ECDSA-Sig-Value` over the SHA-256 of `data` (RFC 5758 section 3.2)."""


class KeyEngine(Protocol):
    """Makes device keys by the thousand, and signs with a CA's key that is here."""

    name: str

    def private_keys(self, count: int) -> list[Sec1Der]:
        """`count` fresh P-256 keys, each of `SEC1_LENGTH` octets."""

    def signature(self, key: bytes) -> Signature:
        """What signs with a P-256 private key, SEC1 or PKCS#8 DER."""


class OpenSSLKeys:
    """Keys by the OpenSSL inside `cryptography`; its random generator reseeds itself after a fork."""

    name = "openssl"

    def private_keys(self, count: int) -> list[Sec1Der]:
        """`count` fresh P-256 keys, each of `SEC1_LENGTH` octets."""
        # One export gives the private key and, in its last octets, the public point: a second export for the
        # public key would cost as much again.
        generate, curve = ec.generate_private_key, ec.SECP256R1()
        der, sec1, plain = Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()
        # Not Sec1Der(…), which would be a call for each.
        return cast("list[Sec1Der]", [generate(curve).private_bytes(der, sec1, plain) for _ in range(count)])

    def signature(self, key: bytes) -> Signature:
        """What signs with a P-256 private key, SEC1 or PKCS#8 DER; nonces as `authority.signers.FileKey` says."""
        private_key = load_der_private_key(key, None)
        assert isinstance(private_key, ec.EllipticCurvePrivateKey)  # noqa: S101 - loading the CA checked it
        # Hashed here: that costs less than having the library make a hash of its own each time.
        sign, prehashed = private_key.sign, ec.ECDSA(Prehashed(hashes.SHA256()))
        return lambda data: sign(sha256(data).digest(), prehashed)


AUTO = "auto"
"""The fastest engine that is installed."""

_ENGINES = {
    "aws-lc": ("batch_issuer.minting.aws_lc", "AwsLcKeys"),
    "openssl": ("batch_issuer.minting.keys", "OpenSSLKeys"),
}

ENGINE_NAMES = tuple(_ENGINES)


_EXTRA = "fast"
_OLDEST_AWSCRT = (0, 28, 4)
"""The oldest that was tried; those before 0.28 make no P-256 keys."""


def choose_engine(name: str) -> str:
    """The name of the engine that `name`, which may be `AUTO`, stands for on this machine.

    What is installed is looked at, and nothing of it is loaded: that is left to the workers.

    Raises:
        RefusedError: there is none of that name, or what it needs is not installed or too old.
    """
    if name == AUTO:
        try:
            _check_awscrt()
        except RefusedError:
            return "openssl"
        return "aws-lc"
    _check_known(name)
    if name == "aws-lc":
        _check_awscrt()
    return name


def _check_awscrt() -> None:
    need_extra(_EXTRA, "awscrt", "_awscrt")
    from awscrt import __version__ as found  # noqa: PLC0415 - an extra; this part of it is pure Python

    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", found)
    if numbers is None or tuple(map(int, numbers.groups())) < _OLDEST_AWSCRT:
        oldest = ".".join(map(str, _OLDEST_AWSCRT))
        raise RefusedError(
            f"the key engine aws-lc needs awscrt {oldest} or later; {found} is installed",
            hint=f"pip install 'batch-issuer[{_EXTRA}]', or take --key-engine openssl",
        )


def key_engine(name: str) -> KeyEngine:
    """The engine called `name`; its library is loaded only now.

    Raises:
        RefusedError: there is none of that name.
        RunFailedError: its library cannot be loaded.
    """
    _check_known(name)
    module, attribute = _ENGINES[name]
    return cast("KeyEngine", getattr(import_module(module), attribute)())


def _check_known(name: str) -> None:
    if name not in _ENGINES:
        known = ", ".join(_ENGINES)
        raise RefusedError(f"key engine {name!r} is not known", hint=f"known engines: {known}")
