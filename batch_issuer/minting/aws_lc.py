"""Keys and signatures by AWS-LC, which PyPI's `awscrt` brings: the same certificates in less time."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, cast

from batch_issuer.errors import RunFailedError
from batch_issuer.minting.keys import SEC1_LENGTH

if TYPE_CHECKING:
    from batch_issuer.devices import Sec1Der
    from batch_issuer.minting.keys import Signature

__all__ = ["AwsLcKeys"]

_BEFORE_NUMBER = bytes.fromhex("30770201010420")
"""ECPrivateKey ::= SEQUENCE (119 octets) { version 1, privateKey OCTET STRING (32 octets) … (RFC 5915 section 3)"""

_AFTER_NUMBER = bytes.fromhex("a00a06082a8648ce3d030107a14403420004")
"""… [0] { prime256v1 }, [1] { BIT STRING (66 octets, 0 unused) } }, with the point's first octet."""

_NUMBER_LENGTH, _COORDINATES = 32, 64


class AwsLcKeys:
    """Keys by AWS-LC.

    Its random generator lies in memory that the kernel clears in a forked child (madvise(2), MADV_WIPEONFORK), and
    seeds itself anew there; where the kernel does not do that, it does so for every draw. Workers load it after their
    fork all the same. It starts no threads.

    Raises:
        RunFailedError: `awscrt` cannot be loaded.
    """

    name = "aws-lc"

    def __init__(self) -> None:
        try:
            from awscrt.crypto import EC, ECExportFormat, ECType  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise RunFailedError(
                f"the key engine aws-lc cannot be loaded: {error}",
                hint="take --key-engine openssl; what began goes on with it, by --resume",
            ) from None
        self._keys, self._p256, self._sec1 = EC, ECType.P_256, ECExportFormat.SEC1

    def private_keys(self, count: int) -> list[Sec1Der]:
        """`count` fresh P-256 keys, each of `SEC1_LENGTH` octets.

        Raises:
            RunFailedError: they have another form than SEC1 with named curve and public key.
        """
        generate, p256, sec1 = self._keys.new_generate, self._p256, self._sec1
        made = [generate(p256).export_key(sec1) for _ in range(count)]
        return cast("list[Sec1Der]", [der if len(der) == SEC1_LENGTH else _in_full_length(der) for der in made])

    def signature(self, key: bytes) -> Signature:
        """What signs with a P-256 private key, SEC1 or PKCS#8 DER."""
        # As OpenSSL does, AWS-LC makes each nonce of fresh randomness together with the private key and the digest
        # (ecdsa.c, ECDSA_do_sign), so that a generator that repeats itself does not give the key away.
        sign = self._keys.new_key_from_der_data(key).sign
        return lambda data: sign(sha256(data).digest())


def _in_full_length(der: bytes) -> bytes:
    """A SEC1 key whose private number lost its leading zero octets, with them.

    `awscrt` writes numbers without them, one key of 256; RFC 5915 section 3 wants 32 octets of P-256, and
    `cryptography` reads nothing else.

    Raises:
        RunFailedError: it is another key than that.
    """
    start = len(_BEFORE_NUMBER)
    rest = der[-_COORDINATES - len(_AFTER_NUMBER) :]
    number = der[start : -len(rest)]
    missing = _NUMBER_LENGTH - len(number)
    if not (0 < missing < _NUMBER_LENGTH and rest.startswith(_AFTER_NUMBER) and der.startswith(_before(len(number)))):
        raise RunFailedError("the key engine aws-lc made a key that is not SEC1 with named curve and public key")
    return _BEFORE_NUMBER + bytes(missing) + number + rest


def _before(number_length: int) -> bytes:
    """`_BEFORE_NUMBER` of a number of another length."""
    missing = _NUMBER_LENGTH - number_length
    return bytes(octet - missing if place in (1, 6) else octet for place, octet in enumerate(_BEFORE_NUMBER))
