"""One part's keys and certificates, made the fast way and checked against the readable one.

A device has a key made for it, or keeps its own and has brought a CSR: then no key is made.
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from batch_issuer.devices import CertificateDer, DeviceRequest, MintedPart, Sec1Der
from batch_issuer.errors import BatchIssuerError
from batch_issuer.minting.keys import POINT_OFFSET
from batch_issuer.minting.reference import device_certificate, requested_certificate
from batch_issuer.minting.requested import cut_requested_template, read_requested, requested_certificates
from batch_issuer.minting.template import SERIAL_LENGTH, SPKI_PREFIX, certificates, cut_template, serial_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    from batch_issuer.minting.keys import KeyEngine, Signature
    from batch_issuer.minting.reference import DeviceIssuance

    _Columns: TypeAlias = tuple[list[Sec1Der | None], list[CertificateDer], list[bytes]]

__all__ = ["Mint", "TemplateMismatch"]


class TemplateMismatch(BatchIssuerError):  # noqa: N818 - named for what was seen
    """The fast path made another certificate than the readable definition; the part is thrown away."""


class Mint:
    """Makes the keys and certificates of part after part, in one process.

    Args:
        issuance: what the run's certificates have in common.
        engine: what makes device keys.
        sign: the CA's signature.
        ca_public_key: the CA's public key, to check the first signature of each part.
        random: the source of serial numbers; tests hand in their own.
    """

    def __init__(
        self,
        issuance: DeviceIssuance,
        engine: KeyEngine,
        sign: Signature,
        ca_public_key: ec.EllipticCurvePublicKey,
        *,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._issuance = issuance
        self._engine = engine
        self._sign = sign
        self._ca_public_key = ca_public_key
        self._random = random
        self._templates = {flag: cut_template(issuance, production=flag) for flag in (False, True)}
        self._requested_template = cut_requested_template(issuance)
        # Only the to-be-signed octets of the readable twin are compared, so any key may sign it: the CA's own, which
        # may be slow or in a token, signs nothing but what is issued.
        self._twin_key = ec.generate_private_key(ec.SECP256R1())

    def part(
        self,
        device_uuids: list[bytes],
        production: bool | Sequence[bool],
        csrs: Sequence[bytes | None] | None = None,
    ) -> MintedPart:
        """Keys and certificates for a part's devices, in their order.

        Args:
            device_uuids: n times 36 ASCII octets, lower case; n is at least 1.
            production: one flag for all, or n flags; a CSR's subject says it for itself.
            csrs: n PEM texts of checked CSRs, None for a device whose key is made here; None when all are made here.

        Raises:
            TemplateMismatch: the first certificate of a template differs from the readable definition, or its
                signature is wrong.
        """
        flags = [production] * len(device_uuids) if isinstance(production, bool) else production
        serials = serial_numbers(self._random(SERIAL_LENGTH * len(device_uuids)))
        private_keys: list[Sec1Der | None]
        if csrs is None:
            private_keys, issued, points = self._with_keys(device_uuids, flags, serials)
        else:
            private_keys, issued, points = self._mixed(device_uuids, flags, csrs, serials)
        return MintedPart(
            device_uuids,
            private_keys,
            issued,
            serials,
            b"".join([sha256(certificate).digest() for certificate in issued]),
            b"".join([sha256(SPKI_PREFIX + point).digest() for point in points]),
        )

    def _with_keys(self, device_uuids: list[bytes], flags: Sequence[bool], serials: bytes) -> _Columns:
        private_keys = self._engine.private_keys(len(device_uuids))
        templates = map(self._templates.__getitem__, flags)
        issued = certificates(templates, device_uuids, serials, private_keys, self._sign)
        for flag in set(flags):
            place = flags.index(flag)
            request = DeviceRequest(device_uuids[place].decode(), flag)
            certificate = x509.load_der_x509_certificate(issued[place])
            public_key = certificate.public_key()
            assert isinstance(public_key, ec.EllipticCurvePublicKey)  # noqa: S101 - the template holds P-256 keys only
            serial = int.from_bytes(_serial(serials, place))
            twin = device_certificate(self._issuance, request, public_key, serial, self._twin_key)
            self._compare(request.device_uuid, certificate, twin)
        return [*private_keys], issued, [key[POINT_OFFSET:] for key in private_keys]

    def _for_csrs(
        self, device_uuids: Sequence[bytes], csrs: Sequence[bytes], serials: bytes
    ) -> tuple[list[CertificateDer], list[bytes]]:
        requested = [read_requested(csr) for csr in csrs]
        issued = requested_certificates(self._requested_template, requested, serials, self._sign)
        # One of each length, since the length of its subject is what a certificate's outer octets depend on.
        for place in {len(subject): place for place, (subject, _) in enumerate(requested)}.values():
            csr = x509.load_pem_x509_csr(csrs[place])
            serial = int.from_bytes(_serial(serials, place))
            twin = requested_certificate(self._issuance, csr, serial, self._twin_key)
            certificate = x509.load_der_x509_certificate(issued[place])
            self._compare(device_uuids[place].decode(), certificate, twin)
        return issued, [point for _, point in requested]

    def _mixed(
        self, device_uuids: list[bytes], flags: Sequence[bool], csrs: Sequence[bytes | None], serials: bytes
    ) -> _Columns:
        """Both kinds, each made together, then put in the order of the rows."""
        brought = {place: csr for place, csr in enumerate(csrs) if csr is not None}
        lacking = [place for place, csr in enumerate(csrs) if csr is None]

        def serials_at(places: Iterable[int]) -> bytes:
            return b"".join([_serial(serials, place) for place in places])

        keys, made, made_points = self._with_keys(
            [device_uuids[place] for place in lacking], [flags[place] for place in lacking], serials_at(lacking)
        )
        issued, points = self._for_csrs(
            [device_uuids[place] for place in brought], [*brought.values()], serials_at(brought)
        )
        private_keys = dict(zip(lacking, keys, strict=True))
        all_issued = dict(zip((*lacking, *brought), (*made, *issued), strict=True))
        all_points = dict(zip((*lacking, *brought), (*made_points, *points), strict=True))
        places = range(len(csrs))
        return (
            [private_keys.get(place) for place in places],
            [all_issued[place] for place in places],
            [all_points[place] for place in places],
        )

    def _compare(self, device_uuid: str, certificate: x509.Certificate, twin: x509.Certificate) -> None:
        if twin.tbs_certificate_bytes != certificate.tbs_certificate_bytes:
            raise TemplateMismatch(f"the certificate of {device_uuid} differs from its definition")
        try:
            self._ca_public_key.verify(
                certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256())
            )
        except InvalidSignature:
            raise TemplateMismatch(
                f"the CA's signature on the certificate of {device_uuid} is wrong",
                hint="the CA's key or token does not belong to its certificate",
            ) from None


def _serial(serials: bytes, place: int) -> bytes:
    return serials[SERIAL_LENGTH * place : SERIAL_LENGTH * (place + 1)]
