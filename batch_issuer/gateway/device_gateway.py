"""The device gateway: what a device may ask once TLS has checked its certificate, and how it becomes known.

A refusal is a line of text, as dg-satellite's are. In the order of the checks:

1. 403 without a certificate, or with one whose name is no device's.
2. 403 when the certificate's device CA is not trusted any more, on a connection that was made when it was.
3. 403 for a deleted device.
4. 502 for another key under a known UUID: key rotation is not supported.
5. At the first contact: 403 when the device CA is disabled; otherwise the device is created.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from batch_issuer.devices import is_uuid
from batch_issuer.gateway.issuers import device_cas_of
from batch_issuer.gateway.replies import Refusal, unexpected
from batch_issuer.gateway.store import Conflict

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from batch_issuer.gateway.context import Gateway
    from batch_issuer.gateway.store import Device

__all__ = ["device_app", "is_trusted"]


def device_app(gateway: Gateway, root_json: bytes, current: Callable[[], ssl.SSLContext | None]) -> web.Application:
    """The gateway as an application.

    Args:
        gateway: whose devices they are.
        root_json: the TUF root document.
        current: what new handshakes go by now.
    """
    documents: dict[str, Callable[[Device], web.Response]] = {
        "/device": lambda device: web.json_response(_shown(device)),
        "/repo/1.root.json": lambda _device: web.Response(body=root_json, content_type="application/json"),
    }

    async def serve(request: web.Request) -> web.Response:
        connection = request.get_extra_info("ssl_object")
        stale = connection is None or connection.context is not current()
        try:
            response = answer(request, _admitted(gateway, connection, stale=stale))
        except Refusal as refusal:
            response = web.Response(status=refusal.status, text=str(refusal))
        except Exception as error:
            response = unexpected(request, error)
        if stale:
            response.force_close()  # the next one is made by what is in force now
        return response

    def answer(request: web.Request, device: Device) -> web.Response:
        document = documents.get(request.path)
        if document is None:
            return web.json_response({"msg": "Not Found"}, status=404)
        if request.method not in ("GET", "HEAD"):
            return web.json_response({"msg": "Method Not Allowed"}, status=405, headers={"Allow": "GET, HEAD"})
        return document(device)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    return app


def is_trusted(connection: ssl.SSLObject, cas: Sequence[x509.Certificate]) -> bool:
    """Whether the device at the other end, if it has shown a certificate, goes by one of these device CAs."""
    try:
        return bool(device_cas_of(connection, _leaf(connection), cas))
    except Refusal:
        return connection.getpeercert(binary_form=True) is None


def _admitted(gateway: Gateway, connection: ssl.SSLObject | None, *, stale: bool) -> Device:
    """The device at the other end, created at its first contact.

    Raises:
        Refusal: it is not let in.
    """
    leaf = _leaf(connection)
    assert connection is not None  # noqa: S101 - or it had no certificate
    uuid = _uuid(leaf)
    if stale and not device_cas_of(connection, leaf, gateway.pki.device_cas):
        raise Refusal(403, "the client certificate's device CA is not trusted any more")
    key = leaf.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    known = gateway.store.devices.get(uuid)
    if known is None:
        known = _created(gateway, device_cas_of(connection, leaf, gateway.pki.device_cas), leaf, uuid, key)
    elif known.denied:
        raise Refusal(403, f"Device({uuid}) has been deleted")
    elif known.public_key != key:
        raise Refusal(502, "Key rotation is not supported")
    gateway.store.devices.seen(uuid, gateway.now())
    return known


def _leaf(connection: ssl.SSLObject | None) -> x509.Certificate:
    octets = None if connection is None else connection.getpeercert(binary_form=True)
    if octets is None:
        raise Refusal(403, "no client certificate provided")
    try:
        certificate = x509.load_der_x509_certificate(octets)
        _ = certificate.subject, certificate.public_key()
    except ValueError:
        raise Refusal(403, "unable to read the client certificate") from None
    return certificate


def _uuid(leaf: x509.Certificate) -> str:
    names = [str(name.value) for name in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if len(names) != 1 or not is_uuid(names[0]):
        raise Refusal(403, "the client certificate's common name must be a UUID")
    return names[0]


def _created(gateway: Gateway, cas: Sequence[x509.Certificate], leaf: x509.Certificate, uuid: str, key: str) -> Device:
    if not any(gateway.pki.is_active(ca) for ca in cas):
        raise Refusal(403, f"Device({uuid}) cannot be registered: its device CA is disabled")
    categories = leaf.subject.get_attributes_for_oid(NameOID.BUSINESS_CATEGORY)
    production = any(category.value == "production" for category in categories)
    try:
        return gateway.store.devices.create(uuid, public_key=key, production=production, now=gateway.now())
    except Conflict as conflict:  # its UUID is another device's name
        raise Refusal(502, str(conflict)) from None


def _shown(device: Device) -> dict[str, object]:
    return {
        "uuid": device.uuid,
        "name": device.name,
        "group": device.group,
        "is_prod": device.production,
        "pubkey": device.public_key,
        "created-at": device.created_at.isoformat(timespec="seconds"),
        "last-seen": None if device.last_seen is None else device.last_seen.isoformat(timespec="seconds"),
    }
