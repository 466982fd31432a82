"""`python loops.py cryptography|trustme < UUIDS`: the loop that one writes first, two files for a device.

It imports nothing of this program, whose speed it is compared with. The CA is in the folder `$PKI`; files go into the
working folder.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["cryptography_loop", "main", "trustme_loop"]

DAYS = 3000


def cryptography_loop(uuids: Iterable[str], pki: Path) -> None:
    """Keys and certificates as the documentation of `cryptography` makes them."""
    from cryptography import x509  # noqa: PLC0415 - each loop loads only what it takes
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: PLC0415

    ca = x509.load_pem_x509_certificate((pki / "local-ca.pem").read_bytes())
    ca_key = serialization.load_pem_private_key((pki / "local-ca.key").read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)  # noqa: S101 - as `ca create` makes it
    ca_identifier = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    [factory] = ca.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    for uuid in uuids:
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, uuid), factory]))
            .issuer_name(ca.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=DAYS))
            .add_extension(x509.KeyUsage(True, *[False] * 8), critical=True)  # digitalSignature alone
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_identifier), critical=False
            )
            .sign(ca_key, hashes.SHA256())
        )
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        Path(f"{uuid}.key").write_bytes(pem)
        Path(f"{uuid}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def trustme_loop(uuids: Iterable[str], pki: Path) -> None:
    """Keys and certificates by trustme, which fixes most of what is in them."""
    import trustme  # noqa: PLC0415 - it may not be installed

    ca = trustme.CA.from_pem((pki / "local-ca.pem").read_bytes(), (pki / "local-ca.key").read_bytes())
    for uuid in uuids:
        made = ca.issue_cert(uuid, common_name=uuid, organization_unit_name="bench", key_type=trustme.KeyType.ECDSA)
        made.private_key_pem.write_to_path(f"{uuid}.key")
        made.cert_chain_pems[0].write_to_path(f"{uuid}.pem")


def main() -> None:
    """Issue for every line of standard input."""
    loop = {"cryptography": cryptography_loop, "trustme": trustme_loop}[sys.argv[1]]
    loop((line.rstrip("\n") for line in sys.stdin), Path(os.environ["PKI"]))


if __name__ == "__main__":
    main()
