"""Certificate signing requests as devices' software makes them, for tests."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pki import key_usage, p256

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric import ec

UTF8, PRINTABLE = _ASN1Type.UTF8String, _ASN1Type.PrintableString
KINDS = {"CN": NameOID.COMMON_NAME, "OU": NameOID.ORGANIZATIONAL_UNIT_NAME, "BC": NameOID.BUSINESS_CATEGORY}
FORMS = [
    (("CN", "OU"), UTF8),  # lmp-device-register, openssl
    (("OU", "CN"), PRINTABLE),  # Go's clients
    (("OU", "CN"), UTF8),
    (("CN", "OU"), PRINTABLE),
]
"""Orders and string types of a subject that devices' software writes."""


def subject_name(
    uuid: str, order: Sequence[str] = ("CN", "OU"), kind: _ASN1Type = UTF8, *, factory: str = "acme"
) -> x509.Name:
    values = {"CN": uuid, "OU": factory, "BC": "production"}
    return x509.Name([x509.NameAttribute(KINDS[name], values[name], kind) for name in order])


def make_csr(
    uuid: str,
    order: Sequence[str] = ("CN", "OU"),
    kind: _ASN1Type = UTF8,
    *,
    factory: str = "acme",
    key: ec.EllipticCurvePrivateKey | None = None,
    extensions: Iterable[x509.ExtensionType] = (),
) -> bytes:
    """A request's PEM text."""
    builder = x509.CertificateSigningRequestBuilder(subject_name(uuid, order, kind, factory=factory))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key or p256(), hashes.SHA256()).public_bytes(Encoding.PEM)


def asking_csr(uuid: str) -> bytes:
    """A request as lmp-device-register makes it, with the extensions that a device gets anyway."""
    purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    return make_csr(uuid, extensions=(key_usage("digital_signature"), purposes))


def forms_of(uuids: Sequence[str], every: int = 1) -> dict[str, bytes]:
    """Requests for each `every`-th of the devices, in all forms by turns."""
    chosen = uuids[:: every or 1]
    return {uuid: make_csr(uuid, *FORMS[place % len(FORMS)]) for place, uuid in enumerate(chosen)}


def spki_of(csr: bytes) -> bytes:
    key = x509.load_pem_x509_csr(csr).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def csr_manifest(uuids: Iterable[str], csrs: Mapping[str, bytes]) -> bytes:
    """A CSV manifest of these devices, some of which bring a request."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("device_uuid", "csr", "name"))
    for place, uuid in enumerate(uuids):
        writer.writerow((uuid, csrs.get(uuid, b"").decode(), f"device {place}"))
    return text.getvalue().encode()
