"""Checks one device's bundle against the run and against the device's row of the output manifest."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_private_key

from batch_issuer.bundles.contents import CERTIFICATE, PRIVATE_KEY, ROOT, SOTA_TOML
from batch_issuer.output.rows import KEY_BROUGHT, KEY_MADE
from batch_issuer.verification.certificate import CertificateChecker, CheckedCertificate
from batch_issuer.verification.finding import Fault
from batch_issuer.verification.pem import PemError, unwrap
from batch_issuer.verification.readable import shown_text
from batch_issuer.verification.sota import SotaChecker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batch_issuer.bundles.contents import Bundle
    from batch_issuer.verification.facts import RunFacts
    from batch_issuer.verification.rows import Row

__all__ = ["BundleChecker"]

# ECPrivateKey SEQUENCE { ecPrivkeyVer1(1), OCTET STRING of 32 octets, [0] secp256r1, [1] BIT STRING of the point }
# (RFC 5915 section 3)
_SEC1_HEAD = bytes.fromhex("3077 020101 0420")
_SEC1_MIDDLE = bytes.fromhex("a00a 06082a8648ce3d030107 a144 034200")
_SCALAR_ENDS = len(_SEC1_HEAD) + 32
_POINT_BEGINS = _SCALAR_ENDS + len(_SEC1_MIDDLE)
_SEC1_LENGTH = _POINT_BEGINS + 65

_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_NEUTRALISED = re.compile("'+[=+\\-@\t\r]")


class BundleChecker:
    """Checks the bundles of one run.

    Args:
        facts: what they are checked against.

    Raises:
        ValueError: the CA's certificate cannot be used.
    """

    def __init__(self, facts: RunFacts) -> None:
        self._facts = facts
        self._times = (int(facts.not_before.timestamp()), int(facts.not_after.timestamp()))
        self._certificates = CertificateChecker(
            facts.ca, factory=facts.factory, not_before=facts.not_before, not_after=facts.not_after
        )
        self._files = {CERTIFICATE, ROOT}
        self._sota: SotaChecker | None = None
        if facts.gateway is not None:
            self._files.add(SOTA_TOML)
            self._sota = SotaChecker(facts.gateway, facts.ostree or facts.gateway, facts.device_hsm_module)
        self._files_with_key = self._files | {PRIVATE_KEY}
        self._root_text = b""

    def check(self, bundle: Bundle, row: Row) -> CheckedCertificate:
        """Check a bundle: its certificate, with the faults of everything in the bundle and in its row.

        1. The files that must be there, stored as they must be; for a device that keeps its key, no private key.
        2. The certificate, by its profile; then the row, by the certificate.
        3. The private key, by its form and by the certificate.
        4. The root and sota.toml, which say whom the device trusts.
        """
        faults = [Fault("bundle-storage", problem) for problem in bundle.problems]
        keeps_key = self._keeps_key(row, faults)
        files = self._files if keeps_key else self._files_with_key
        if bundle.files.keys() != files:
            faults += _file_faults(bundle.files.keys(), files)
        checked = self._certificate(bundle, row, faults, keeps_key=keeps_key)
        if not keeps_key:
            self._private_key(bundle, checked.point, faults)
        self._root(bundle, faults)
        faults += self._sota_faults(bundle, row)
        checked.faults.extend(faults)
        return checked

    def _keeps_key(self, row: Row, faults: list[Fault]) -> bool:
        """Whether the device keeps its key: by its row, and never because there is no key in its bundle."""
        if not self._facts.csr_rows:
            return False
        if row.key_origin not in (KEY_MADE, KEY_BROUGHT):
            wrong = f"key_origin is {shown_text(str(row.key_origin))}, expected {KEY_MADE} or {KEY_BROUGHT}"
            faults.append(Fault("row-key-origin", wrong))
        return row.key_origin == KEY_BROUGHT

    def _certificate(self, bundle: Bundle, row: Row, faults: list[Fault], *, keeps_key: bool) -> CheckedCertificate:
        der = _unwrapped(bundle, CERTIFICATE, b"CERTIFICATE", faults)
        if der is None:
            return CheckedCertificate()
        production: bool | None = self._facts.production
        if row.production:
            production = self._production(self._plain(row.production) or "", faults)
        checked = self._certificates.check(der, row.device_uuid, production=production, own_subject=keeps_key)
        faults += _row_faults(row, checked, sha256(der).hexdigest())
        if (row.not_before, row.not_after) != self._times:
            faults.append(Fault("row-validity", "the row's times are not the run's"))
        if not row.certificate_pem:
            if self._facts.with_certificates:
                faults.append(Fault("row-certificate", "the row has no certificate_pem, and in this run every row has"))
        elif row.certificate_pem.encode() != bundle.files[CERTIFICATE]:
            faults.append(Fault("row-certificate", "the row's certificate_pem is not the bundle's certificate"))
        return checked

    def _production(self, text: str, faults: list[Fault]) -> bool | None:
        said = text.strip().lower()
        if said and said not in _FLAGS:
            faults.append(Fault("row-production", f"production is {shown_text(text)}, expected true, false, 1 or 0"))
            return None
        return _FLAGS.get(said, self._facts.production)

    def _private_key(self, bundle: Bundle, point: bytes, faults: list[Fault]) -> None:
        key = _unwrapped(bundle, PRIVATE_KEY, b"EC PRIVATE KEY", faults)
        if key is None:
            return
        if (
            len(key) != _SEC1_LENGTH
            or not key.startswith(_SEC1_HEAD)
            or key[_SCALAR_ENDS:_POINT_BEGINS] != _SEC1_MIDDLE
        ):
            faults.append(Fault("bundle-key", f"{PRIVATE_KEY} is not a P-256 key with its public key, as RFC 5915"))
            return
        try:
            load_der_private_key(key, None)  # multiplies the scalar, and refuses another point than the one beside it
        except (ValueError, UnsupportedAlgorithm):
            faults.append(
                Fault("bundle-key", f"{PRIVATE_KEY} is no valid key: its public key is not that of its scalar")
            )
        if point and key[_POINT_BEGINS:] != point:
            faults.append(Fault("bundle-key-mismatch", f"{PRIVATE_KEY} is not the key that {CERTIFICATE} certifies"))

    def _root(self, bundle: Bundle, faults: list[Fault]) -> None:
        text = bundle.files.get(ROOT)
        if text is None or text == self._root_text:
            return
        der = _unwrapped(bundle, ROOT, b"CERTIFICATE", faults)
        if der == self._facts.root:
            self._root_text = text
        elif der is not None:
            faults.append(Fault("bundle-root", f"{ROOT} is not the factory's root certificate"))

    def _sota_faults(self, bundle: Bundle, row: Row) -> Iterable[Fault]:
        text = bundle.files.get(SOTA_TOML)
        if self._sota is None or text is None:
            return ()
        hardware_id = self._plain(row.hardware_id) or self._facts.hardware_id
        tag = self._plain(row.tag) or self._facts.tag
        return self._sota.faults(text, hardware_id, tag, self._plain(row.apps))

    def _plain(self, text: str | None) -> str | None:
        """The row's text as it was in the input."""
        if text and self._facts.formulas_neutralised and _NEUTRALISED.match(text):
            return text[1:]
        return text


def _file_faults(there: Iterable[str], wanted: set[str]) -> Iterator[Fault]:
    for name in sorted(wanted.difference(there)):
        yield Fault("bundle-file-missing", f"{name} is not in the bundle")
    for name in sorted(set(there) - wanted):
        yield Fault("bundle-file-unexpected", f"{name} is in the bundle, and must not be")


def _unwrapped(bundle: Bundle, name: str, label: bytes, faults: list[Fault]) -> bytes | None:
    text = bundle.files.get(name)
    if text is None:
        return None
    try:
        return unwrap(text, label)
    except PemError as error:
        faults.append(Fault("bundle-pem", f"{name}: {error}"))
        return None


def _row_faults(row: Row, checked: CheckedCertificate, digest: str) -> Iterator[Fault]:
    if row.certificate_sha256 != digest:
        yield Fault("row-certificate-hash", f"certificate_sha256 is not the certificate's {digest}")
    if not checked.public_key_digest:
        return
    if row.public_key_sha256 != checked.public_key_digest.hex():
        yield Fault("row-key-hash", f"public_key_sha256 is not the certificate's {checked.public_key_digest.hex()}")
    serial = checked.serial.hex().zfill(40)
    if row.serial_number != serial:
        yield Fault(
            "row-serial", f"serial_number is {shown_text(str(row.serial_number))}, the certificate's is {serial}"
        )
