"""Device keys: the engines that make them, behind one small seam."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from batch_issuer.devices import Sec1Der
from batch_issuer.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["POINT_OFFSET", "SEC1_LENGTH", "KeyEngine", "Signature", "key_engine"]

SEC1_LENGTH = 121
"""Octets of a P-256 SEC1 key with named curve and public key (RFC 5915)."""

POINT_OFFSET = 56
"""Where its uncompressed public point (65 octets, 0x04 first) begins: the key's last field."""


class Signature(Protocol):
    """The CA's half of minting: what signs a certificate, whether a key in memory or in a token."""

    def __call__(self, data: bytes, /) -> bytes:
        """The DER `ECDSA-Sig-Value` over the SHA-256 of `data` (RFC 5758 section 3.2)."""


class KeyEngine(Protocol):
    """Makes device keys by the thousand."""

    name: str

    def private_keys(self, count: int) -> list[Sec1Der]:
        """`count` fresh P-256 keys, each of `SEC1_LENGTH` octets."""


class OpenSSLKeys:
    """Keys by the OpenSSL inside `cryptography`; its random generator reseeds itself after a fork."""

    name = "openssl"

    def private_keys(self, count: int) -> list[Sec1Der]:
        """`count` fresh P-256 keys, each of `SEC1_LENGTH` octets."""
        # One export gives the private key and, in its last octets, the public point: a second export for the
        # public key would cost as much again.
        generate, curve = ec.generate_private_key, ec.SECP256R1()
        der, sec1, plain = Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()
        return [Sec1Der(generate(curve).private_bytes(der, sec1, plain)) for _ in range(count)]


_ENGINES: dict[str, Callable[[], KeyEngine]] = {"openssl": OpenSSLKeys}


def key_engine(name: str) -> KeyEngine:
    """The engine called `name`.

    Raises:
        RefusedError: there is none of that name.
    """
    try:
        return _ENGINES[name]()
    except KeyError:
        known = ", ".join(sorted(_ENGINES))
        raise RefusedError(f"key engine {name!r} is not known", hint=f"known engines: {known}") from None
