"""What a run's record means for the rooms below: the terms of its certificates and bundles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509

from batch_issuer import profiles
from batch_issuer.bundles.sota import SotaSettings
from batch_issuer.minting.reference import DeviceIssuance

if TYPE_CHECKING:
    from batch_issuer.output.record import RunRecord

__all__ = ["device_issuance", "sota_settings"]


def device_issuance(record: RunRecord) -> DeviceIssuance:
    """What the run's certificates have in common."""
    ca = x509.load_pem_x509_certificate(record.ca_certificate.encode())
    try:
        identifier = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        identifier = None
    window = profiles.ValidityWindow(record.starts, record.ends)
    return DeviceIssuance(ca.subject, identifier, record.factory, window)


def sota_settings(record: RunRecord) -> SotaSettings | None:
    """What the run's `sota.toml` files have in common; None when there are none."""
    if record.gateway is None or record.ostree is None:
        return None
    return SotaSettings(record.gateway, record.ostree, record.hardware_id, record.tag, record.device_hsm_module)
