"""How devices become known before their first contact: by their own request, or by a certificate that they have.

`POST /ota/devices/` is lmp-device-register's and fioup's way: with the token, signed by online-ca. `POST /sign` is a
registration server's on a factory floor: without a token, signed by local-ca. `PUT /ota/devices/` is how such a server,
or whoever has issued certificates, tells the factory of a device.

Who asks again with the same key is let in again, so a lost answer costs nothing: a request is answered by another
certificate for that key, valid beside the one before, a certificate by the device as it is known. Another key under a
known UUID is a conflict, because the device gateway would not let it in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web

from batch_issuer.authority import checks
from batch_issuer.authority.names import text_fault
from batch_issuer.authority.requests import request_key
from batch_issuer.errors import AuthorityError
from batch_issuer.gateway import device_list
from batch_issuer.gateway.enrolment import certified_device, certify, device_files, public_key_pem, read_device_request
from batch_issuer.gateway.issuers import issuers
from batch_issuer.gateway.overrides import device_sota, read_wishes
from batch_issuer.gateway.replies import Refusal, read_object, text

if TYPE_CHECKING:
    from cryptography import x509

    from batch_issuer.authority.requests import DeviceIdentity
    from batch_issuer.gateway.context import DeviceCa, Gateway
    from batch_issuer.gateway.store import Device

__all__ = ["add_routes"]


def add_routes(app: web.Application, gateway: Gateway) -> None:
    """Add the routes to `app`, those of `device_list` too.

    Args:
        app: where to; its middlewares check the token and turn errors into answers.
        gateway: whose devices they are.
    """
    # Nothing is awaited after the body has come, so no other request comes between a check and what follows from it.

    async def register(request: web.Request) -> web.Response:
        return _online(gateway, await read_object(request))

    async def sign(request: web.Request) -> web.Response:
        return _on_the_floor(gateway, await read_object(request))

    async def create(request: web.Request) -> web.Response:
        return _ahead(gateway, await read_object(request))

    app.router.add_post("/ota/devices/", register)
    app.router.add_put("/ota/devices/", create)
    app.router.add_post("/sign", sign)
    device_list.add_routes(app, gateway)


def _online(gateway: Gateway, body: dict[str, Any]) -> web.Response:
    """A device registers at the factory; that takes it off the deny list."""
    signer = _signer(gateway, gateway.online_ca, "online-ca")
    return _enrolled(gateway, body, signer, group=_name(body, "group"), pardon=True)


def _on_the_floor(gateway: Gateway, body: dict[str, Any]) -> web.Response:
    """A device registers at a registration server, which asks nobody who they are."""
    signer = _signer(gateway, gateway.local_ca, "local-ca")
    if text(body, "group") is not None:
        raise Refusal(400, "group must not be there: who is not asked for a token does not choose a device's group")
    return _enrolled(gateway, body, signer, group=None, pardon=False)


def _enrolled(
    gateway: Gateway, body: dict[str, Any], signer: _Signer, *, group: str | None, pardon: bool
) -> web.Response:
    """The device's files; the steps are those of every enrolment.

    1. The fields are what they should be, and the request is one of this factory's device.
    2. The certificate and the files are made. Nobody has them yet.
    3. The device is kept, or conflicts with another; only then the files are given away.
    """
    wishes = read_wishes(_needed(body, "hardware-id"), text(body, "sota-config-dir"), body.get("overrides"))
    name = _name(body, "name")
    csr, identity = read_device_request(
        _needed(body, "csr"), factory=gateway.factory, allow_production=gateway.allow_production
    )
    uuid = text(body, "uuid") or identity.device_uuid
    if uuid != identity.device_uuid:
        raise Refusal(400, f"uuid must be the common name of csr, {identity.device_uuid}; it is another")
    certificate = certify(csr, signer.ca, now=gateway.now())
    files = device_files(certificate, signer.ca.certificate, signer.root, device_sota(wishes, gateway.hosts))
    key = public_key_pem(request_key(csr))
    _kept(gateway, identity, key, name=name, group=group, pardon=pardon)
    return web.json_response(files, status=201)


def _ahead(gateway: Gateway, body: dict[str, Any]) -> web.Response:
    """A device is created by its certificate: 201, or 200 if it is there just so."""
    name, group = _name(body, "name"), _name(body, "group")
    what, now = "client.pem", gateway.now()
    certificate = checks.parse_certificate(_needed(body, what).encode(errors="replace"), what)
    identity, key = certified_device(certificate, factory=gateway.factory, what=what, now=now)
    _check_issuer(gateway, certificate, what)
    device, is_new = _kept(gateway, identity, public_key_pem(key), name=name, group=group, pardon=False)
    if not is_new and (name or device.name, group or device.group) != (device.name, device.group):
        raise Refusal(409, f"there is the device {device.uuid} already, with another name or group; PATCH changes them")
    return web.json_response(device_list.shown(device, gateway.factory), status=201 if is_new else 200)


class _Signer(NamedTuple):
    """A device CA that may sign for new devices, and the root above it."""

    ca: DeviceCa
    root: x509.Certificate


def _signer(gateway: Gateway, ca: DeviceCa | None, name: str) -> _Signer:
    root = gateway.pki.root
    if root is None:
        raise Refusal(503, "the factory's PKI is not configured, so there is nobody to sign")
    if ca is None:
        raise Refusal(503, f"this server has no {name} in force whose key it has, so it signs no request")
    if not gateway.can_issue(ca):
        raise Refusal(503, f"{name} is disabled or not trusted any more, so it signs for no new device")
    try:
        checks.check_valid(name, ca.certificate, gateway.now())
    except AuthorityError as error:
        raise Refusal(503, str(error)) from None
    return _Signer(ca, root)


def _check_issuer(gateway: Gateway, certificate: x509.Certificate, what: str) -> None:
    cas = issuers(certificate, gateway.pki.device_cas)
    if not cas:
        raise Refusal(400, f"{what} must be signed by a device CA of this factory; it is not")
    active = [ca for ca in cas if gateway.pki.is_active(ca)]
    if not active:
        serial = cas[0].serial_number
        raise Refusal(403, f"{what} is signed by the device CA with the serial number {serial}, which is disabled")
    checks.check_valid(f"the device CA of {what}", max(active, key=lambda ca: ca.not_valid_after_utc), gateway.now())


def _kept(
    gateway: Gateway, identity: DeviceIdentity, public_key: str, *, name: str | None, group: str | None, pardon: bool
) -> tuple[Device, bool]:
    """The device, as it is known or as it was created now, and whether that was now.

    Raises:
        Conflict: its UUID is known with another key, or denied; or its name is another device's.
        Refusal: it was known to be of production, or not to be, and is said to be otherwise now.
    """
    known = gateway.store.devices.get(identity.device_uuid)
    if known is not None and not known.denied and known.public_key == public_key:
        if known.production != identity.production:
            kind = "of production" if known.production else "not of production"
            raise Refusal(409, f"the device {known.uuid} is {kind}, which is fixed for its life")
        return known, False
    created = gateway.store.devices.create(
        identity.device_uuid,
        public_key=public_key,
        production=identity.production,
        now=gateway.now(),
        name=name,
        group=group,
        pardon=pardon,
    )
    return created, True


def _needed(body: dict[str, Any], field: str) -> str:
    value = text(body, field)
    if value is None:
        raise Refusal(400, f"the body must have {field}; it has none")
    return value


def _name(body: dict[str, Any], field: str) -> str | None:
    """The name of a device or of a group."""
    value = text(body, field)
    if value is not None and (fault := text_fault(value)):
        raise Refusal(400, f"{field} {fault}")
    return value
