"""A PKCS#12 file per device (RFC 7292), for import into other software: key, certificate and chain under a password.

The chain is the device CA and the root. What imports such a file presents the CA to servers that know only the root,
and knows its servers by the root. A device's own `client.pem` stays the leaf alone: `extract` takes it out so.
"""

from __future__ import annotations

import os
import stat
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    pkcs12,
)
from cryptography.x509 import load_der_x509_certificate

from batch_issuer.bundles.contents import CERTIFICATE, PRIVATE_KEY, ROOT, Bundle, certificate_pem, private_key_pem
from batch_issuer.bundles.format import PASSWORD_FORMAT, Footprint, Staged
from batch_issuer.bundles.separate import SeparateFormat, file_problems, read_file
from batch_issuer.devices import CertificateDer, Sec1Der
from batch_issuer.errors import BundleError
from batch_issuer.files import PRIVATE_MODE, create_file, write_all
from batch_issuer.sums import BUNDLES, sum_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryptography.hazmat.primitives.serialization import KeySerializationEncryption
    from cryptography.x509 import Certificate

    from batch_issuer.bundles.contents import PartBundles
    from batch_issuer.bundles.format import PasswordOf

__all__ = ["DERIVATIONS", "KDF_ROUNDS", "P12Format", "encoded_p12", "p12_encryption"]

KDF_ROUNDS = 2048
"""Rounds of PBKDF2-HMAC-SHA256 (RFC 8018) for the key and for the certificates.

OWASP's 600,000 would be ours to pay, 0.13 s of a core per device, and nobody who guesses would pay them: a guess is
tried on the file's MAC, whose key is derived by 2,048 rounds of SHA-256 (RFC 7292 appendix B) whatever stands here.
`cryptography` has no other number for it, and no PBMAC1 (RFC 9579), which OpenSSL before 3.4 could not read anyway.
So these are as many as the MAC's, which is also OpenSSL's own default, and it is the password that has to be strong.
"""

DERIVATIONS = 3
"""Of a file: the key's, the certificates', and the MAC's, which takes about as long."""

_OVERHEAD = 800
"""Octets of a file beside its certificates, at most: the encrypted key, algorithms, salts, names and the MAC."""


class P12Format(SeparateFormat):
    """`<uuid>.p12`, mode 0600: AES-256-CBC and PBKDF2-HMAC-SHA256 (RFC 8018), a MAC with SHA-256 over all of it.

    Args:
        password_of: opens what is read.
    """

    name = PASSWORD_FORMAT
    suffix = ".p12"
    kind = stat.S_IFREG

    def __init__(self, password_of: PasswordOf | None = None) -> None:
        self._password_of = password_of

    def write(self, part: PartBundles, folder: int) -> Staged:
        """Make the part's files below `folder`. Every device has a key and a password, as the plan has seen to."""
        assert part.passwords is not None  # noqa: S101 - no run of this format is planned without
        assert part.ca is not None  # noqa: S101 - the same
        chain = [load_der_x509_certificate(part.ca), load_der_x509_certificate(part.root)]
        written, sums = 0, []
        rows = zip(part.device_uuids, part.private_keys, part.certificates, part.passwords, strict=True)
        for device_uuid, private_key, certificate, password in rows:
            assert private_key is not None  # noqa: S101 - rows that bring a CSR were refused
            octets = encoded_p12(device_uuid, private_key, certificate, chain, password)
            name = device_uuid.decode() + self.suffix
            fd = create_file(name, PRIVATE_MODE, dir_fd=folder)
            try:
                write_all(fd, octets)
            finally:
                os.close(fd)
            written += len(octets)
            sums.append(sum_line(sha256(octets).hexdigest(), f"{BUNDLES}/{name}").encode())
        return Staged(written, sums)

    def footprint(
        self,
        devices: int,
        parts: int,
        *,
        certificate: int,
        root: int,
        sota: int,  # noqa: ARG002 - the format's seam: it stores none
        block_size: int,
    ) -> Footprint:
        """What a run takes on the disk: whole blocks for each file; the device CA's certificate is like the root's."""
        blocks = -(-(certificate + 2 * root + _OVERHEAD) // block_size)
        return Footprint(devices * blocks * block_size, devices + parts)

    def read(self, bundles: Path, location: str) -> Iterator[Bundle]:
        """The one bundle of a device's file, as the files that the device would have.

        Raises:
            BundleError: there is no such file, no password for it, or the password does not open it.
        """
        uuid = location.removesuffix(self.suffix)
        try:
            octets, status = read_file(bundles / location)
        except OSError as error:
            raise BundleError(f"{location} is not a regular file that can be read: {error.strerror}") from None
        password = None if self._password_of is None else self._password_of(uuid)
        if password is None:
            raise BundleError(f"there is no password for {location}")
        problems = tuple(file_problems(location, status, PRIVATE_MODE, bundles.stat()))
        yield Bundle(uuid, _files(octets, password, location), problems)


def encoded_p12(
    device_uuid: bytes, private_key: Sec1Der, certificate: CertificateDer, chain: list[Certificate], password: bytes
) -> bytes:
    """A device's file.

    Args:
        device_uuid: the friendly name (RFC 7292 section 4.2) of key and certificate, ASCII.
        private_key: SEC1 DER.
        certificate: the device's, DER.
        chain: its CAs, the lowest first.
        password: printable ASCII.
    """
    key = load_der_private_key(private_key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - it was made a moment ago
    leaf = load_der_x509_certificate(certificate)
    return pkcs12.serialize_key_and_certificates(device_uuid, key, leaf, chain, p12_encryption(password))


def p12_encryption(password: bytes, *, rounds: int = KDF_ROUNDS) -> KeySerializationEncryption:
    """How a file is encrypted."""
    return (
        PrivateFormat.PKCS12.encryption_builder()
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .kdf_rounds(rounds)
        .hmac_hash(SHA256())
        .build(password)
    )


def _files(octets: bytes, password: bytes, location: str) -> dict[str, bytes]:
    try:
        found = pkcs12.load_pkcs12(octets, password)
    except (ValueError, UnsupportedAlgorithm):
        raise BundleError(
            f"{location} does not open: its password is another, or the file is damaged",
            hint="`batch-issuer verify` tells which bundles are damaged",
        ) from None
    files = {}
    if isinstance(found.key, ec.EllipticCurvePrivateKey):
        key = found.key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        files[PRIVATE_KEY] = private_key_pem(Sec1Der(key))
    if found.cert is not None:
        files[CERTIFICATE] = certificate_pem(CertificateDer(found.cert.certificate.public_bytes(Encoding.DER)))
    for above in found.additional_certs:
        if above.certificate.issuer == above.certificate.subject:
            files[ROOT] = certificate_pem(CertificateDer(above.certificate.public_bytes(Encoding.DER)))
    return files
