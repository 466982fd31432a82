"""Certificates and revocation lists in words, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from batch_issuer.authority.names import printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

__all__ = ["describe_certificate", "describe_crl"]

_USAGES = {
    "digital_signature": "digitalSignature",
    "content_commitment": "nonRepudiation",
    "key_encipherment": "keyEncipherment",
    "data_encipherment": "dataEncipherment",
    "key_agreement": "keyAgreement",
    "key_cert_sign": "keyCertSign",
    "crl_sign": "cRLSign",
}

_PURPOSES = {ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth", ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth"}
_NAMES: dict[type[x509.GeneralName], str] = {
    x509.DNSName: "DNS",
    x509.IPAddress: "IP",
    x509.UniformResourceIdentifier: "URI",
    x509.RFC822Name: "email",
}


def describe_certificate(certificate: x509.Certificate) -> str:
    """Its fields, one a line, without a line break at the end."""
    key = certificate.public_key()
    kind = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__
    lines = [
        f"Subject:      {certificate.subject.rfc4514_string()}",
        f"Issuer:       {certificate.issuer.rfc4514_string()}",
        f"Serial:       {certificate.serial_number}",
        f"Not before:   {_time(certificate.not_valid_before_utc)}",
        f"Not after:    {_time(certificate.not_valid_after_utc)}",
        f"Key:          {kind}",
        f"SHA-256:      {certificate.fingerprint(hashes.SHA256()).hex()}",
    ]
    for extension in certificate.extensions:
        critical = " (critical)" if extension.critical else ""
        name, value = _extension(extension.value)
        lines.append(f"{name}{critical}: {value}")
    return "\n".join(map(printable, lines))


def describe_crl(text: bytes) -> str:
    """The fields of a PEM list, one a line, without a line break at the end."""
    crl = x509.load_pem_x509_crl(text)
    lines = [
        f"Issuer:       {crl.issuer.rfc4514_string()}",
        f"This update:  {_time(crl.last_update_utc)}",
        f"Next update:  {'none' if crl.next_update_utc is None else _time(crl.next_update_utc)}",
    ]
    for entry in crl:
        reasons = [e.value.reason.value for e in entry.extensions if isinstance(e.value, x509.CRLReason)]
        lines.append(f"Serial:       {entry.serial_number}, reason {', '.join(reasons) or 'none'}")
    return "\n".join(map(printable, lines))


def _extension(value: x509.ExtensionType) -> tuple[str, str]:
    for kind, name, words in _EXTENSIONS:
        if isinstance(value, kind):
            return name, words(value)
    return value.oid.dotted_string, "not shown"


def _constraints(value: Any) -> str:
    length = "" if value.path_length is None else f", pathlen:{value.path_length}"
    return f"CA:{str(value.ca).upper()}{length}"


def _usages(value: Any) -> str:
    return ", ".join(name for bit, name in _USAGES.items() if getattr(value, bit))


def _purposes(value: Any) -> str:
    return ", ".join(_PURPOSES.get(purpose, purpose.dotted_string) for purpose in value)


def _names(value: Any) -> str:
    return ", ".join(f"{_NAMES.get(type(name), type(name).__name__)}:{name.value}" for name in value)


def _authority(value: Any) -> str:
    return "none" if value.key_identifier is None else str(value.key_identifier.hex())


_EXTENSIONS: tuple[tuple[type[x509.ExtensionType], str, Callable[[Any], str]], ...] = (
    (x509.BasicConstraints, "basicConstraints", _constraints),
    (x509.KeyUsage, "keyUsage", _usages),
    (x509.ExtendedKeyUsage, "extendedKeyUsage", _purposes),
    (x509.SubjectAlternativeName, "subjectAltName", _names),
    (x509.SubjectKeyIdentifier, "subjectKeyIdentifier", lambda value: str(value.digest.hex())),
    (x509.AuthorityKeyIdentifier, "authorityKeyIdentifier", _authority),
)


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
