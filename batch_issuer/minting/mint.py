"""One part's keys and certificates, made the fast way and checked against the readable one."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from batch_issuer.devices import DeviceRequest, MintedPart
from batch_issuer.errors import BatchIssuerError
from batch_issuer.minting.keys import POINT_OFFSET
from batch_issuer.minting.reference import device_certificate
from batch_issuer.minting.template import SERIAL_LENGTH, SPKI_PREFIX, certificates, cut_template, serial_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batch_issuer.minting.keys import KeyEngine, Signature
    from batch_issuer.minting.reference import DeviceIssuance

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
        # Only the to-be-signed octets of the readable twin are compared, so any key may sign it: the CA's own, which
        # may be slow or in a token, signs nothing but what is issued.
        self._twin_key = ec.generate_private_key(ec.SECP256R1())

    def part(self, device_uuids: list[bytes], production: bool | Sequence[bool]) -> MintedPart:
        """Keys and certificates for a part's devices, in their order.

        Args:
            device_uuids: n times 36 ASCII octets, lower case; n is at least 1.
            production: one flag for all, or n flags.

        Raises:
            TemplateMismatch: the first certificate of a template differs from the readable definition, or its
                signature is wrong.
        """
        flags = [production] * len(device_uuids) if isinstance(production, bool) else production
        private_keys = self._engine.private_keys(len(device_uuids))
        serials = serial_numbers(self._random(SERIAL_LENGTH * len(device_uuids)))
        templates = map(self._templates.__getitem__, flags)
        issued = certificates(templates, device_uuids, serials, private_keys, self._sign)
        for flag in set(flags):
            place = flags.index(flag)
            serial = serials[SERIAL_LENGTH * place : SERIAL_LENGTH * (place + 1)]
            self._compare(DeviceRequest(device_uuids[place].decode(), flag), serial, issued[place])
        return MintedPart(
            device_uuids,
            private_keys,
            issued,
            serials,
            b"".join([sha256(certificate).digest() for certificate in issued]),
            b"".join([sha256(SPKI_PREFIX + key[POINT_OFFSET:]).digest() for key in private_keys]),
        )

    def _compare(self, request: DeviceRequest, serial: bytes, issued: bytes) -> None:
        certificate = x509.load_der_x509_certificate(issued)
        public_key = certificate.public_key()
        assert isinstance(public_key, ec.EllipticCurvePublicKey)  # noqa: S101 - the template holds P-256 keys only
        twin = device_certificate(self._issuance, request, public_key, int.from_bytes(serial), self._twin_key)
        if twin.tbs_certificate_bytes != certificate.tbs_certificate_bytes:
            raise TemplateMismatch(f"the certificate of {request.device_uuid} differs from its definition")
        try:
            self._ca_public_key.verify(
                certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256())
            )
        except InvalidSignature:
            raise TemplateMismatch(
                f"the CA's signature on the certificate of {request.device_uuid} is wrong",
                hint="the CA's key or token does not belong to its certificate",
            ) from None
