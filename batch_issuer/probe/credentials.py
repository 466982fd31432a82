"""A device's bundle as its TLS stack loads it: the key never touches a disk on the way."""

from __future__ import annotations

import os
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import NameOID

from batch_issuer.bundles.contents import CERTIFICATE, PRIVATE_KEY, ROOT
from batch_issuer.files import write_all
from batch_issuer.probe.faults import ProbeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["device_context", "is_production"]

_PRODUCTION = "production"
_MISMATCH = "KEY_VALUES_MISMATCH"


def device_context(files: Mapping[str, bytes]) -> ssl.SSLContext:
    """TLS as the device speaks it: its key and certificate, and nobody trusted but its root.crt.

    Each device gets a context of its own, so that nothing of one, a session least of all, can serve another.

    Args:
        files: the bundle's, by name.

    Raises:
        ProbeError: `bundle-damaged`: one is missing or cannot be used, or the key is not the certificate's.
        OSError: as memfd_create(2), write(2).
    """
    for name in (PRIVATE_KEY, CERTIFICATE, ROOT):
        if name not in files:
            raise ProbeError("bundle-damaged", f"it has no {name}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=files[ROOT].decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise ProbeError("bundle-damaged", f"{ROOT} is no certificate in PEM") from None
    with _in_memory(files[CERTIFICATE]) as certificate, _in_memory(files[PRIVATE_KEY]) as key:
        try:
            # Without a password OpenSSL would ask the terminal for that of an encrypted key.
            context.load_cert_chain(certificate, key, password=lambda: "")
        except (ssl.SSLError, ValueError) as error:
            raise ProbeError("bundle-damaged", _reason(error)) from None
    return context


def is_production(certificate: bytes, device_uuid: str) -> bool:
    """Whether a device's certificate says that it is one of production.

    The subject's businessCategory says it, as the gateway reads it (dg-satellite, server/gateway/middleware.go).

    Args:
        certificate: PEM.
        device_uuid: whose it must be.

    Raises:
        ProbeError: `bundle-damaged`: it is no certificate, or another device's.
    """
    try:
        subject = x509.load_pem_x509_certificate(certificate).subject
        names = [attribute.value for attribute in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        categories = [attribute.value for attribute in subject.get_attributes_for_oid(NameOID.BUSINESS_CATEGORY)]
    except ValueError:
        raise ProbeError("bundle-damaged", f"{CERTIFICATE} is no certificate in PEM") from None
    if names != [device_uuid]:
        raise ProbeError("bundle-damaged", f"{CERTIFICATE} is not for this device")
    return _PRODUCTION in categories


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """A path for what takes files only: the content lies in memory, and is gone afterwards."""
    descriptor = os.memfd_create("bundle", os.MFD_CLOEXEC)
    try:
        write_all(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason == _MISMATCH:
        return f"{PRIVATE_KEY} is not the key of {CERTIFICATE}"
    return f"{PRIVATE_KEY} is no key that a device can use with {CERTIFICATE}"
