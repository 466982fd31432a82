"""The rules of the certificate API, as functions of what is in force: what is shown, asked for and changed.

Sources: the fields and their meaning are those of fioctl's client (`FactoryGetCA`, `FactoryCreateCA`,
`FactoryPatchCA`) and of the vendor's documentation of the device gateway's PKI.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from batch_issuer.authority import checks
from batch_issuer.authority.device_cas import read_device_cas
from batch_issuer.authority.names import host_fault, unit_fault
from batch_issuer.authority.revocation import DISABLED, ENABLED, parse_crl
from batch_issuer.authority.root import check_root
from batch_issuer.errors import AuthorityError
from batch_issuer.gateway.replies import Refusal, flag, text
from batch_issuer.gateway.state import USER_ID, Pki, dns_names

if TYPE_CHECKING:
    from datetime import datetime

    from batch_issuer.gateway.keys import KeyStore, Purpose

__all__ = ["Order", "changed", "ordered", "shown"]

_CERTIFICATES = ("root-crt", "ca-crt", "est-tls-crt", "tls-crt")
_CRL = "ca-revoke-crl"
_FLAGS = ("first-time-init", "ca-csr", "est-tls-csr", "tls-csr")


@dataclass(frozen=True, slots=True)
class Order:
    """What a POST asks for.

    Attributes:
        purposes: the field of each request that is asked for, with what its key is for.
        scripts: whether it is the guide's old form, whose answer has the shell scripts too.
    """

    purposes: dict[str, Purpose]
    scripts: bool = False


_PURPOSES: dict[str, Purpose] = {"tls-csr": "tls", "ca-csr": "online-ca", "est-tls-csr": "est"}


def ordered(pki: Pki, body: dict[str, Any]) -> Order:
    """What a POST's body asks for.

    Raises:
        Refusal: a field is no boolean, or a PKI is to be begun that there is already.
    """
    asked = {name: flag(body, name) for name in _FLAGS}
    if pki.root is not None and (asked["first-time-init"] or not body):
        raise Refusal(409, "the factory's PKI is initialized already, and a root is made once")
    if not body:
        return Order({name: _PURPOSES[name] for name in ("tls-csr", "ca-csr")}, scripts=True)
    return Order({name: purpose for name, purpose in _PURPOSES.items() if asked[name]})


def shown(pki: Pki) -> dict[str, Any]:
    """What a GET answers once there is a root."""
    listed = [ca.serial_number for ca in pki.device_cas if ca.serial_number in pki.disabled]
    return {
        "root-crt": _pem(pki.root),
        "ca-crt": _pem(*pki.device_cas),
        "est-tls-crt": _pem(pki.est),
        "tls-crt": _pem(pki.tls),
        "disabled-ca-serials": [str(serial) for serial in listed],
        "change-meta": {
            "created-by": USER_ID,
            "created-at": _time(pki.created_at),
            "updated-by": USER_ID,
            "updated-at": _time(pki.updated_at),
        },
    }


def changed(pki: Pki, body: dict[str, Any], *, factory: str, keys: KeyStore, now: datetime) -> Pki:
    """What is in force after a PATCH: all of it or, by an error, nothing.

    Args:
        pki: what is in force before.
        body: the fields; unknown, null and empty ones are ignored.
        factory: the organizational unit that the root must have.
        keys: the keys that the server made.
        now: UTC.

    Raises:
        Refusal: a field is no text, none is there, or the root is to be another one.
        AuthorityError: a certificate or the list of revocations breaks a rule.
    """
    texts = {
        name: value.encode(errors="replace")
        for name in (*_CERTIFICATES, _CRL)
        if (value := text(body, name)) is not None
    }
    if not texts:
        raise Refusal(400, f"a change has at least one of {', '.join((*_CERTIFICATES, _CRL))}; this has none")
    root = pki.root if "root-crt" not in texts else _root(texts["root-crt"], factory, now)
    if root is None:
        raise Refusal(409, "the factory has no root yet, and everything else is signed by it; root-crt comes first")
    if pki.root is not None and pki.root != root:
        raise Refusal(409, "root-crt is set once; the factory has another root already")
    pki = replace(pki, root=root, created_at=pki.created_at or now, updated_at=now)
    if "tls-crt" in texts:
        pki = replace(pki, tls=_server("tls-crt", "tls", texts["tls-crt"], root, keys=keys, now=now))
    if "est-tls-crt" in texts:
        pki = replace(pki, est=_est(texts, root, keys, now))
    if "ca-crt" in texts:
        pki = replace(pki, device_cas=read_device_cas(texts["ca-crt"], "ca-crt", root))
    return pki if _CRL not in texts else _revoked(pki, root, texts[_CRL], now)


def _root(value: bytes, factory: str, now: datetime) -> x509.Certificate:
    """The rules of a root: a P-256 CA signed by itself, valid now, with room for a CA below, of this factory."""
    what = "root-crt"
    root = checks.parse_certificate(value, what)
    check_root(what, root, now)
    if fault := unit_fault(checks.organizational_units(root), factory):
        raise AuthorityError(f"{what} {fault}")
    return root


def _est(texts: dict[str, bytes], root: x509.Certificate, keys: KeyStore, now: datetime) -> x509.Certificate:
    certificate = _server("est-tls-crt", "est", texts["est-tls-crt"], root, keys=keys, now=now)
    if len(names := dns_names(certificate)) != 1:
        raise AuthorityError(f"est-tls-crt must have one DNS name; it has {len(names)}")
    return certificate


def _server(
    what: str, purpose: Purpose, value: bytes, root: x509.Certificate, *, keys: KeyStore, now: datetime
) -> x509.Certificate:
    """The rules of a server's certificate: signed by the root, for a key that was made here, valid, with names."""
    certificate = checks.parse_certificate(value, what)
    checks.p256_key(what, certificate)
    checks.check_issued_by(what, certificate, "root-crt", root)
    checks.check_valid(what, certificate, now)
    if not keys.made(purpose, certificate):
        raise AuthorityError(
            f"{what} must certify the key of a request for it by this server; it certifies another key"
        )
    constraints = checks.find_extension(certificate, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise AuthorityError(f"{what} must be a server's certificate; it is a CA's")
    purposes = checks.find_extension(certificate, x509.ExtendedKeyUsage)
    if purposes is None or ExtendedKeyUsageOID.SERVER_AUTH not in purposes:
        raise AuthorityError(f"{what} must be allowed for TLS servers; its extendedKeyUsage lacks serverAuth")
    names = dns_names(certificate)
    if not names:
        raise AuthorityError(f"{what} must have the server's DNS name in its subjectAltName; it has none")
    for name in names:
        if fault := host_fault(name):
            raise AuthorityError(f"{what}: a host {fault}: {name!r}")
    return certificate


def _revoked(pki: Pki, root: x509.Certificate, value: bytes, now: datetime) -> Pki:
    """What is in force after the root's list: a CA is disabled, enabled, or taken away."""
    crl = parse_crl(value, root, _CRL)
    if crl.next_update is None or crl.next_update < now:
        found = "it does not say until when" if crl.next_update is None else f"it was until {_time(crl.next_update)}"
        raise AuthorityError(f"{_CRL} must be valid now, {_time(now)}; {found}")
    if not crl.reasons:
        raise AuthorityError(f"{_CRL} must list a device CA; it lists none")
    for serial, reason in crl.reasons.items():
        if serial not in {ca.serial_number for ca in pki.device_cas}:
            raise AuthorityError(f"{_CRL} must list device CAs of ca-crt; none there has the serial number {serial}")
        if reason == DISABLED:
            pki = replace(pki, disabled=pki.disabled | {serial})
            continue
        pki = replace(pki, disabled=pki.disabled - {serial})
        if reason != ENABLED:
            pki = replace(pki, device_cas=tuple(ca for ca in pki.device_cas if ca.serial_number != serial))
    return pki


def _pem(*certificates: x509.Certificate | None) -> str | None:
    return "".join(c.public_bytes(Encoding.PEM).decode() for c in certificates if c is not None) or None


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")
