"""Device certificates that are wrong in one respect each: the mutation matrix, and more of its kind.

A good certificate is taken apart as DER, one field is changed, and the CA signs the whole again; so the signature is
right wherever the mutant is not about the signature.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from batch_issuer.verification.der import content, element, split

if TYPE_CHECKING:
    from collections.abc import Callable

FACTORY = "acme"
DEVICE_UUID = "5a1c6b9e-8f3d-4f0a-9a55-0c1d2e3f4a5b"
CA_BEGINS = datetime(2026, 1, 1, tzinfo=UTC)
CA_ENDS = datetime(2046, 1, 1, tzinfo=UTC)
NOT_BEFORE = datetime(2026, 11, 23, 16, 0, tzinfo=UTC)
NOT_AFTER = datetime(2045, 12, 31, 23, 59, 59, tzinfo=UTC)

ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
ECDSA_SHA256_WITH_NULL = bytes.fromhex("300c06082a8648ce3d0403020500")
ECDSA_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")


@dataclass(frozen=True)
class Authority:
    """A root and a device CA below it."""

    root: x509.Certificate
    ca: x509.Certificate
    ca_key: ec.EllipticCurvePrivateKey

    @property
    def ca_der(self) -> bytes:
        return self.ca.public_bytes(Encoding.DER)

    @property
    def root_der(self) -> bytes:
        return self.root.public_bytes(Encoding.DER)


def make_authority(key_identifier: bytes | None = bytes(range(20))) -> Authority:
    """Certificates like fioctl's; the CA's key identifier is no hash of its key, so a recomputed one is wrong."""
    root_key, ca_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root_name, ca_name = _name("Factory-CA", FACTORY), _name("fio-5e0", FACTORY)
    root = _ca_builder(root_name, root_name, root_key.public_key(), None)
    root = root.add_extension(x509.SubjectKeyIdentifier.from_public_key(root_key.public_key()), critical=False)
    ca = _ca_builder(ca_name, root_name, ca_key.public_key(), 0)
    of_root = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    ca = ca.add_extension(of_root, critical=False)
    if key_identifier is not None:
        ca = ca.add_extension(x509.SubjectKeyIdentifier(key_identifier), critical=False)
    return Authority(root.sign(root_key, hashes.SHA256()), ca.sign(root_key, hashes.SHA256()), ca_key)


def _ca_builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, path_length: int | None
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), CA_BEGINS, CA_ENDS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage("key_cert_sign"), critical=True)
    )


def _key_usage(bit: str) -> x509.KeyUsage:
    known = "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign"
    return x509.KeyUsage(**{name: name == bit for name in f"{known} crl_sign encipher_only decipher_only".split()})


def _name(common_name: str, unit: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
        ]
    )


def good_certificate(authority: Authority, *, production: bool = False) -> bytes:
    """A device certificate as it must be, by `cryptography` alone."""
    names = list(_name(DEVICE_UUID, FACTORY))
    if production:
        names.append(x509.NameAttribute(NameOID.BUSINESS_CATEGORY, "production"))
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    serial = uuid.uuid4().int
    builder = (
        x509.CertificateBuilder(authority.ca.subject, x509.Name(names), key, serial, NOT_BEFORE, NOT_AFTER)
        .add_extension(_key_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )
    try:
        identifier = authority.ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        builder = builder.add_extension(x509.AuthorityKeyIdentifier(identifier, None, None), critical=False)
    except x509.ExtensionNotFound:
        pass
    return builder.sign(authority.ca_key, hashes.SHA256()).public_bytes(Encoding.DER)


@dataclass(frozen=True)
class Fields:
    """A certificate taken apart; each field is a whole DER element, `extra` stands before the extensions."""

    version: bytes
    serial: bytes
    inner: bytes
    issuer: bytes
    validity: bytes
    subject: bytes
    spki: bytes
    extra: bytes
    extensions: tuple[bytes, ...]
    outer: bytes

    @classmethod
    def of(cls, der: bytes) -> Fields:
        tbs, outer, _ = split(content(der, 0x30))
        version, serial, inner, issuer, validity, subject, spki, extensions = split(content(tbs, 0x30))
        each = tuple(split(content(content(extensions, 0xA3), 0x30)))
        return cls(version, serial, inner, issuer, validity, subject, spki, b"", each, outer)

    @property
    def tbs(self) -> bytes:
        before = (self.version, self.serial, self.inner, self.issuer, self.validity, self.subject, self.spki)
        extensions = element(0xA3, element(0x30, *self.extensions)) if self.extensions else b""
        return element(0x30, *before, self.extra, extensions)

    def signed(self, key: ec.EllipticCurvePrivateKey) -> bytes:
        return assembled(self.tbs, self.outer, key.sign(self.tbs, ec.ECDSA(hashes.SHA256())))


def assembled(tbs: bytes, algorithm: bytes, signature: bytes, *, unused_bits: int = 0) -> bytes:
    return element(0x30, tbs, algorithm, element(0x03, bytes([unused_bits]), signature))


def oid(extension: bytes) -> str:
    return content(split(content(extension, 0x30))[0], 0x06).hex()


KEY_USAGE, EXTENDED_KEY_USAGE, SUBJECT_KEY, AUTHORITY_KEY = "551d0f", "551d25", "551d0e", "551d23"


def _extension(kind: str, value: str, *, critical: bool = False) -> bytes:
    flag = bytes.fromhex("0101ff") if critical else b""
    return element(0x30, element(0x06, bytes.fromhex(kind)), flag, element(0x04, bytes.fromhex(value)))


def _without(fields: Fields, kind: str) -> Fields:
    return replace(fields, extensions=tuple(one for one in fields.extensions if oid(one) != kind))


def _with(fields: Fields, kind: str, value: str | None = None, *, critical: bool = False) -> Fields:
    """One extension put in the place of the same or at the end; its value kept if none is given."""
    old = {oid(one): split(content(one, 0x30))[-1] for one in fields.extensions}
    new = _extension(kind, value or content(old[kind], 0x04).hex(), critical=critical)
    if kind not in old:
        return replace(fields, extensions=(*fields.extensions, new))
    return replace(fields, extensions=tuple(new if oid(one) == kind else one for one in fields.extensions))


def _subject(*attributes: tuple[str, bytes], string: int = 0x0C) -> bytes:
    oids = {"CN": "550403", "OU": "55040b", "BC": "55040f"}
    return element(
        0x30,
        *(
            element(0x31, element(0x30, element(0x06, bytes.fromhex(oids[kind])), element(string, text)))
            for kind, text in attributes
        ),
    )


def _serial(octets: str) -> Callable[[Fields], Fields]:
    return lambda fields: replace(fields, serial=element(0x02, bytes.fromhex(octets)))


def _times(not_before: str, not_after: str) -> Callable[[Fields], Fields]:
    def time(text: str) -> bytes:
        return element(0x17 if len(text) == len("260101000000Z") else 0x18, text.encode())

    return lambda fields: replace(fields, validity=element(0x30, time(not_before), time(not_after)))


def _named(*attributes: tuple[str, bytes], string: int = 0x0C) -> Callable[[Fields], Fields]:
    return lambda fields: replace(fields, subject=_subject(*attributes, string=string))


def _compressed(fields: Fields) -> Fields:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    algorithm = split(content(fields.spki, 0x30))[0]
    return replace(fields, spki=element(0x30, algorithm, element(0x03, b"\0", point)))


def _other_curve(fields: Fields) -> Fields:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    return replace(fields, spki=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _off_the_curve(fields: Fields) -> Fields:
    return replace(fields, spki=fields.spki[:-64] + b"\x11" * 64)


_UUID, _FACTORY = DEVICE_UUID.encode(), FACTORY.encode()
_BEGINS, _ENDS = "261123160000Z", "451231235959Z"
_A_DAY_AFTER_CA = f"{CA_ENDS + timedelta(days=1):%y%m%d%H%M%SZ}"
_A_DAY_BEFORE_CA = f"{CA_BEGINS - timedelta(days=1):%y%m%d%H%M%SZ}"

MATRIX: dict[str, tuple[str, Callable[[Fields], Fields]]] = {
    "no AKI": ("certificate-authority-identifier", lambda f: _without(f, AUTHORITY_KEY)),
    "AKI wrong": ("certificate-authority-identifier", lambda f: _with(f, AUTHORITY_KEY, "30168014" + "77" * 20)),
    "AKI critical": ("certificate-authority-identifier", lambda f: _with(f, AUTHORITY_KEY, critical=True)),
    "SKI critical": ("certificate-key-identifier", lambda f: _with(f, SUBJECT_KEY, critical=True)),
    "KU not critical": ("certificate-key-usage", lambda f: _with(f, KEY_USAGE)),
    "keyCertSign on leaf": ("certificate-key-usage", lambda f: _with(f, KEY_USAGE, "03020284", critical=True)),
    "leaf with CA:TRUE": ("certificate-extension", lambda f: _with(f, "551d13", "30030101ff", critical=True)),
    "EKU serverAuth only": (
        "certificate-extended-key-usage",
        lambda f: _with(f, EXTENDED_KEY_USAGE, "300a06082b06010505070301", critical=True),
    ),
    "no EKU": ("certificate-extended-key-usage", lambda f: _without(f, EXTENDED_KEY_USAGE)),
    "no KU": ("certificate-key-usage", lambda f: _without(f, KEY_USAGE)),
    "expired": ("certificate-validity", _times(_BEGINS, "261123160001Z")),
    "issuer DN wrong": (
        "certificate-issuer",
        lambda f: replace(f, issuer=_subject(("CN", b"fio-5e1"), ("OU", _FACTORY))),
    ),
    "GeneralizedTime before 2050": ("certificate-time-encoding", _times(_BEGINS, f"20{_ENDS}")),
    "serial negative": ("certificate-serial", _serial("ff" + "5a" * 12)),
    "serial 0": ("certificate-serial", _serial("00")),
    "serial of more than 20 octets": ("certificate-serial", _serial("5a" * 21)),
    "CN of 65": ("certificate-subject", _named(("CN", b"5" * 65), ("OU", _FACTORY))),
    "v1 with extensions": ("certificate-version", lambda f: replace(f, version=b"")),
    "duplicate extension": (
        "certificate-key-usage",
        lambda f: replace(f, extensions=(*f.extensions, _with(f, KEY_USAGE, critical=True).extensions[0])),
    ),
    "notAfter past CA": ("certificate-outside-ca", _times(_BEGINS, _A_DAY_AFTER_CA)),
    "notBefore before CA": ("certificate-outside-ca", _times(_A_DAY_BEFORE_CA, _ENDS)),
    "serial 1": ("certificate-serial", _serial("01")),
    "empty subject, no SAN": ("certificate-subject", _named()),
    "two CNs": ("certificate-subject", _named(("CN", _UUID), ("CN", _UUID), ("OU", _FACTORY))),
    "NUL in OU": ("certificate-subject", _named(("CN", _UUID), ("OU", b"ac\0me"))),
}
"""The mutants that the CA signs: what is wrong, to the finding's code and the change."""

MORE: dict[str, tuple[str, Callable[[Fields], Fields]]] = {
    "another device's CN": ("certificate-subject", _named(("CN", str(uuid.UUID(int=1)).encode()), ("OU", _FACTORY))),
    "CN in upper case": ("certificate-subject", _named(("CN", _UUID.upper()), ("OU", _FACTORY))),
    "OU before CN": ("certificate-subject", _named(("OU", _FACTORY), ("CN", _UUID))),
    "PrintableString": ("certificate-subject", _named(("CN", _UUID), ("OU", _FACTORY), string=0x13)),
    "another factory": ("certificate-subject", _named(("CN", _UUID), ("OU", b"other"))),
    "production unasked": ("certificate-subject", _named(("CN", _UUID), ("OU", _FACTORY), ("BC", b"production"))),
    "serial with a needless octet": ("certificate-serial", _serial("00" + "5a" * 12)),
    "serial empty": ("certificate-serial", _serial("")),
    "serial of 63 bits": ("certificate-serial", _serial("7a" + "5a" * 7)),
    "a second later": ("certificate-validity", _times("261123160001Z", _ENDS)),
    "UTCTime without seconds": ("certificate-time-encoding", _times(_BEGINS, "4512312359Z")),
    "UTCTime of 1950": ("certificate-validity", _times("500101000000Z", _ENDS)),
    "no such day": ("certificate-time-encoding", _times(_BEGINS, "450230000000Z")),
    "v2": ("certificate-version", lambda f: replace(f, version=bytes.fromhex("a003020101"))),
    "subject unique identifier": ("certificate-structure", lambda f: replace(f, extra=bytes.fromhex("82020041"))),
    "no extensions": ("certificate-structure", lambda f: replace(f, extensions=())),
    "inner algorithm with NULL": (
        "certificate-signature-algorithm",
        lambda f: replace(f, inner=ECDSA_SHA256_WITH_NULL),
    ),
    "outer algorithm another": ("certificate-signature-algorithm", lambda f: replace(f, outer=ECDSA_SHA384)),
    "issuer as PrintableString": (
        "certificate-issuer",
        lambda f: replace(f, issuer=_subject(("CN", b"fio-5e0"), ("OU", _FACTORY), string=0x13)),
    ),
    "compressed point": ("certificate-public-key", _compressed),
    "P-384": ("certificate-public-key", _other_curve),
    "a point off the curve": ("certificate-public-key", _off_the_curve),
    "keyAgreement too": ("certificate-key-usage", lambda f: _with(f, KEY_USAGE, "03020388", critical=True)),
    "serverAuth too": (
        "certificate-extended-key-usage",
        lambda f: _with(f, EXTENDED_KEY_USAGE, "301406082b0601050507030206082b06010505070301", critical=True),
    ),
    "EKU not critical": ("certificate-extended-key-usage", lambda f: _with(f, EXTENDED_KEY_USAGE)),
    "no SKI": ("certificate-key-identifier", lambda f: _without(f, SUBJECT_KEY)),
    "SKI of another key": ("certificate-key-identifier", lambda f: _with(f, SUBJECT_KEY, "0414" + "77" * 20)),
    "SAN": ("certificate-extension", lambda f: _with(f, "551d11", "300982076578616d706c65")),
    "CA:FALSE": ("certificate-extension", lambda f: _with(f, "551d13", "3000", critical=True)),
    "an unknown extension": ("certificate-extension", lambda f: _with(f, "2a0304", "0500")),
}

_PRINTABLE_STRING, _BMP_STRING, _IA5_STRING, _TELETEX_STRING = 0x13, 0x1E, 0x16, 0x14


def _mixed(*attributes: tuple[str, bytes, int]) -> Callable[[Fields], Fields]:
    """A subject whose attributes have string types of their own."""
    one = [content(_subject((kind, text), string=string), 0x30) for kind, text, string in attributes]
    return lambda fields: replace(fields, subject=element(0x30, *one))


def _together(*attributes: tuple[str, bytes]) -> Callable[[Fields], Fields]:
    """A subject with all attributes in one relative distinguished name."""
    each = [content(one, 0x31) for one in split(content(_subject(*attributes), 0x30))]
    return lambda fields: replace(fields, subject=element(0x30, element(0x31, *each)))


OWN_FORMS: dict[str, Callable[[Fields], Fields]] = {
    "CN first": _named(("CN", _UUID), ("OU", _FACTORY)),
    "OU first": _named(("OU", _FACTORY), ("CN", _UUID)),
    "CN first, printable": _named(("CN", _UUID), ("OU", _FACTORY), string=_PRINTABLE_STRING),
    "OU first, printable": _named(("OU", _FACTORY), ("CN", _UUID), string=_PRINTABLE_STRING),
    "a string type each": _mixed(("CN", _UUID, _PRINTABLE_STRING), ("OU", _FACTORY, 0x0C)),
}
"""Subjects that a device may write into its CSR."""

OWN: dict[str, tuple[str, Callable[[Fields], Fields]]] = {
    "BMPString": ("certificate-subject", _named(("CN", _UUID), ("OU", _FACTORY), string=_BMP_STRING)),
    "IA5String": ("certificate-subject", _named(("OU", _FACTORY), ("CN", _UUID), string=_IA5_STRING)),
    "TeletexString": ("certificate-subject", _mixed(("OU", _FACTORY, _TELETEX_STRING), ("CN", _UUID, 0x0C))),
    "one relative name": ("certificate-subject", _together(("CN", _UUID), ("OU", _FACTORY))),
    "CN twice and no OU": ("certificate-subject", _named(("CN", _UUID), ("CN", _UUID))),
    "CN in both string types": (
        "certificate-subject",
        _mixed(("CN", _UUID, 0x0C), ("CN", _UUID, _PRINTABLE_STRING), ("OU", _FACTORY, 0x0C)),
    ),
    "no OU": ("certificate-subject", _named(("CN", _UUID))),
    "production first": ("certificate-subject", _named(("BC", b"production"), ("CN", _UUID), ("OU", _FACTORY))),
    "a blank behind the factory": ("certificate-subject", _named(("OU", _FACTORY + b" "), ("CN", _UUID))),
    "octets that are no attribute": (
        "certificate-encoding",
        lambda f: replace(f, subject=element(0x30, content(f.subject, 0x30), b"\x31")),
    ),
}
"""Mutants of certificates for CSRs that are wrong, though a device may choose the form of its subject."""


def mutant(authority: Authority, good: bytes, change: Callable[[Fields], Fields]) -> bytes:
    """A changed certificate that the CA signed."""
    return change(Fields.of(good)).signed(authority.ca_key)


def signature_mutants(authority: Authority, good: bytes) -> dict[str, tuple[str, bytes]]:
    """The mutants about the signature and the outermost encoding: what is wrong, to code and certificate."""
    fields = Fields.of(good)
    flipped = good[:-1] + bytes([good[-1] ^ 1])
    edited = replace(fields, subject=_subject(("CN", _UUID), ("OU", b"acne")))
    signature = content(split(content(good, 0x30))[2], 0x03)[1:]
    indefinite = b"\x30\x80" + content(good, 0x30) + b"\0\0"
    stranger = ec.generate_private_key(ec.SECP256R1())
    return {
        "signature bit flip": ("certificate-signature", flipped),
        "subject edited": ("certificate-signature", assembled(edited.tbs, fields.outer, signature)),
        "wrong signer": ("certificate-signature", fields.signed(stranger)),
        "unused bits": ("certificate-signature", assembled(fields.tbs, fields.outer, signature, unused_bits=1)),
        "octets after the signature": ("certificate-signature", assembled(fields.tbs, fields.outer, signature + b"\0")),
        "octets after the certificate": ("certificate-encoding", good + b"\0"),
        "cut off": ("certificate-encoding", good[:-1]),
        "BER's indefinite length": ("certificate-encoding", indefinite),
        "empty": ("certificate-encoding", b""),
    }
