"""Opens a device's PKCS#12 file (RFC 7292) by hand: its one right form, its key, its certificates, its name.

Nothing of what wrote it is used, and no reader that is content with other forms: weaker algorithms, further bags and
other rounds are found, and none of them is obeyed, so that no file makes this derive keys for hours. Whether the MAC is
right is asked of `cryptography` when all that is known: its key is derived by rules of PKCS#12's own.
"""

from __future__ import annotations

import re
from hashlib import pbkdf2_hmac
from typing import TYPE_CHECKING, NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from batch_issuer.bundles.contents import CERTIFICATE, PRIVATE_KEY, ROOT, certificate_pem, private_key_pem
from batch_issuer.devices import CertificateDer, Sec1Der
from batch_issuer.verification.der import DerError, content, element, split
from batch_issuer.verification.finding import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_issuer.verification.facts import RunFacts

__all__ = ["LARGEST_P12", "P12Error", "opened_p12"]

LARGEST_P12 = 1 << 16
"""Octets of a file, at most: three certificates and a key have about 2,000."""

_ROUNDS = (2048).to_bytes(2)
_INTEGER, _OCTETS, _OBJECT_IDENTIFIER, _BMP_STRING, _SEQUENCE, _SET = 0x02, 0x04, 0x06, 0x1E, 0x30, 0x31
_EXPLICIT, _IMPLICIT_OCTETS = 0xA0, 0x80

_DATA, _ENCRYPTED_DATA = bytes.fromhex("2a864886f70d010701"), bytes.fromhex("2a864886f70d010706")
_KEY_BAG, _CERT_BAG = bytes.fromhex("2a864886f70d010c0a0102"), bytes.fromhex("2a864886f70d010c0a0103")
_X509, _FRIENDLY_NAME, _LOCAL_KEY_ID = (bytes.fromhex(f"2a864886f70d0109{end}") for end in ("1601", "14", "15"))

# PBES2, { { PBKDF2, { salt, rounds, { hmacWithSHA256, NULL } } }, { aes256-CBC, IV } } (RFC 8018 appendix A)
_PBES2 = re.compile(
    re.escape(bytes.fromhex("06092a864886f70d01050d 3052 3031 06092a864886f70d01050c 3024 0410"))
    + b"(.{16})"
    + re.escape(element(_INTEGER, _ROUNDS) + bytes.fromhex("300c06082a864886f70d02090500"))
    + re.escape(bytes.fromhex("301d060960864801650304012a0410"))
    + b"(.{16})",
    re.DOTALL,
)
# AlgorithmIdentifier { sha256, NULL }
_SHA256 = bytes.fromhex("300d06096086480165030402010500")

# PrivateKeyInfo { 0, { ecPublicKey, prime256v1 }, OCTET STRING { ECPrivateKey { 1, scalar, [1] point } } } (RFC 5958)
_P256_KEY = re.compile(
    re.escape(bytes.fromhex("308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420"))
    + b"(.{32})"
    + re.escape(bytes.fromhex("a144034200"))
    + b"(.{65})",
    re.DOTALL,
)
_SEC1 = (bytes.fromhex("30770201010420"), bytes.fromhex("a00a06082a8648ce3d030107a144034200"))


class P12Error(Exception):
    """A file that cannot be opened as what it should be.

    Attributes:
        fault: what is wrong.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(code, message)


class OpenedP12(NamedTuple):
    """What a file holds.

    Attributes:
        files: as the device would have them, name to content.
        faults: what is wrong with it, though it opens.
    """

    files: dict[str, bytes]
    faults: list[Fault]

    def __repr__(self) -> str:
        return f"OpenedP12({', '.join(self.files)})"


class _Sealed(NamedTuple):
    salt: bytes
    iv: bytes
    octets: bytes


class _Bag(NamedTuple):
    kind: bytes
    value: bytes
    attributes: dict[bytes, bytes]


def opened_p12(octets: bytes, password: bytes, device_uuid: str, facts: RunFacts) -> OpenedP12:
    """What stands in a device's file.

    1. The frame: version, two contents, every algorithm.
    2. The certificates, encrypted: the device's, its CA's and the root's, in this order; then the MAC.
    3. The key, encrypted, P-256.
    4. The friendly name of key and certificate is the UUID; their local key ID is the same.

    Args:
        octets: the file's.
        password: what it opens with.
        device_uuid: whose it is.
        facts: what it is checked against.

    Raises:
        P12Error: it is no such file, is not encrypted as it must be, or the password is not its own.
    """
    try:
        sealed, key_bag = _contents(octets)
        sealed_key = _sealed(content(key_bag.value, _EXPLICIT), tag=_OCTETS)
        first, *more = _certificate_bags(sealed, password)
        # Only now: what is encrypted is known to be certificates, and nothing in it that keys would be derived for.
        if not _opens(octets, password):
            raise P12Error("p12-password", "its MAC is wrong: the password is another, or the file was changed")
        leaf, *chain = (_certificate(bag) for bag in (first, *more))
        key = _P256_KEY.fullmatch(_decrypted(sealed_key, password))
    except (DerError, ValueError) as error:
        told = str(error) if isinstance(error, DerError) else "its parts are not those of a device's file"
        raise P12Error("p12-form", f"it has another form than key, certificate and chain in PKCS#12: {told}") from None
    if key is None:
        raise P12Error("p12-form", "its key is not a P-256 key with its public key, as PKCS#8")
    files = {
        PRIVATE_KEY: private_key_pem(Sec1Der(_SEC1[0] + key[1] + _SEC1[1] + key[2])),
        CERTIFICATE: certificate_pem(CertificateDer(leaf)),
    }
    if chain:
        files[ROOT] = certificate_pem(CertificateDer(chain[-1]))
    return OpenedP12(files, list(_faults(chain, first, key_bag, device_uuid, facts)))


def _contents(octets: bytes) -> tuple[_Sealed, _Bag]:
    """The SafeContents of the certificates, encrypted, and the bag of the key, which is encrypted by itself."""
    version, safe, mac = split(content(octets, _SEQUENCE))
    if content(version, _INTEGER) != b"\x03":
        raise DerError("its version is not 3")
    _check_mac_form(mac)
    encrypted, plain = split(content(content(_data(safe, _DATA), _OCTETS), _SEQUENCE))
    number, encrypted_content = split(content(_data(encrypted, _ENCRYPTED_DATA), _SEQUENCE))
    kind, *encryption = split(content(encrypted_content, _SEQUENCE))
    if content(number, _INTEGER) != b"\0" or content(kind, _OBJECT_IDENTIFIER) != _DATA:
        raise DerError("its encrypted content is of another kind")
    [key_bag] = _bags(content(_data(plain, _DATA), _OCTETS), _KEY_BAG)
    return _sealed(element(_SEQUENCE, *encryption), tag=_IMPLICIT_OCTETS), key_bag


def _certificate_bags(sealed: _Sealed, password: bytes) -> list[_Bag]:
    try:
        return list(_bags(_decrypted(sealed, password), _CERT_BAG))
    except (DerError, ValueError):
        raise P12Error(
            "p12-password", "it does not open to certificates: the password is another, or the file was changed"
        ) from None


def _data(info: bytes, wanted: bytes) -> bytes:
    """The content of a ContentInfo of a kind (RFC 5652 section 3)."""
    kind, inner = split(content(info, _SEQUENCE))
    if content(kind, _OBJECT_IDENTIFIER) != wanted:
        raise DerError("a content is of another kind")
    return content(inner, _EXPLICIT)


def _check_mac_form(mac: bytes) -> None:
    """The MAC is one with SHA-256 (RFC 7292 section 4); the library that checks it would take others."""
    digest, _, rounds = split(content(mac, _SEQUENCE))
    algorithm, _ = split(content(digest, _SEQUENCE))
    if algorithm != _SHA256 or content(rounds, _INTEGER) != _ROUNDS:
        raise P12Error("p12-algorithm", "its MAC is not one with SHA-256 and 2,048 rounds")


def _opens(octets: bytes, password: bytes) -> bool:
    """Whether the file's MAC is right under the password, and what it protects can be read."""
    try:
        load_pkcs12(octets, password)
    except ValueError:
        return False
    return True


def _sealed(encrypted: bytes, *, tag: int) -> _Sealed:
    """What an algorithm and the octets after it say, nothing decrypted yet."""
    algorithm, octets = split(content(encrypted, _SEQUENCE))
    match = _PBES2.fullmatch(content(algorithm, _SEQUENCE))
    if match is None:
        raise P12Error("p12-algorithm", "it is not encrypted by AES-256-CBC and PBKDF2-HMAC-SHA256 of 2,048 rounds")
    return _Sealed(match[1], match[2], content(octets, tag))


def _decrypted(sealed: _Sealed, password: bytes) -> bytes:
    key = pbkdf2_hmac("sha256", password, sealed.salt, int.from_bytes(_ROUNDS), 32)
    decryptor, unpadder = Cipher(AES256(key), CBC(sealed.iv)).decryptor(), PKCS7(128).unpadder()
    padded = decryptor.update(sealed.octets) + decryptor.finalize()
    return unpadder.update(padded) + unpadder.finalize()


def _bags(contents: bytes, kind: bytes) -> Iterator[_Bag]:
    """The bags of a SafeContents, all of which must be of one kind (RFC 7292 section 4.2)."""
    for bag in split(content(contents, _SEQUENCE)):
        found, value, *attributes = split(content(bag, _SEQUENCE))
        if content(found, _OBJECT_IDENTIFIER) != kind or len(attributes) > 1:
            raise DerError("a bag is of another kind")
        pairs = [split(content(pair, _SEQUENCE)) for some in attributes for pair in split(content(some, _SET))]
        values = {content(name, _OBJECT_IDENTIFIER): content(one, _SET) for name, one in pairs}
        yield _Bag(kind, value, values)


def _certificate(bag: _Bag) -> bytes:
    kind, value = split(content(content(bag.value, _EXPLICIT), _SEQUENCE))
    if content(kind, _OBJECT_IDENTIFIER) != _X509:
        raise DerError("a certificate is of another kind than X.509")
    return content(content(value, _EXPLICIT), _OCTETS)


def _faults(chain: list[bytes], leaf: _Bag, key: _Bag, device_uuid: str, facts: RunFacts) -> Iterator[Fault]:
    if chain != [facts.ca, facts.root]:
        yield Fault("p12-chain", "the certificates after the device's are not the device CA's and the root's")
    name = element(_BMP_STRING, device_uuid.encode("utf-16-be"))
    if leaf.attributes.get(_FRIENDLY_NAME) != name or key.attributes.get(_FRIENDLY_NAME) != name:
        yield Fault("p12-name", "the friendly name of key and certificate is not the device's UUID")
    identifiers = {bag.attributes.get(_LOCAL_KEY_ID) for bag in (leaf, key)}
    if len(identifiers) != 1 or None in identifiers:
        yield Fault("p12-name", "key and certificate do not have one local key ID")
