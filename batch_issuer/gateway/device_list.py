"""The factory's list of devices and its deny list, as fioctl reads and changes them.

Sources: fioctl's client (`Device`, `DeviceList`, `DeviceApi`); an empty `last-seen` is its word for never.
"""

from __future__ import annotations

import fnmatch
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiohttp import web

from batch_issuer.authority.names import text_fault
from batch_issuer.figures import listed
from batch_issuer.gateway.certificate_api import check_factory
from batch_issuer.gateway.replies import Refusal, read_object, text
from batch_issuer.gateway.state import USER_ID

if TYPE_CHECKING:
    from batch_issuer.gateway.context import Gateway
    from batch_issuer.gateway.store import Device

__all__ = ["add_routes", "shown"]

_PAGE = 1000
"""Devices on a page, at most and unless told otherwise."""

_LAST_PAGE = 10**9
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
"""A Host header whose host is a name or an address (RFC 9110 section 7.2); URLs of the library are made of anything."""

_CHANGES = ("name", "group", "owner")


def add_routes(app: web.Application, gateway: Gateway) -> None:
    """Add the routes to `app`.

    Args:
        app: where to.
        gateway: whose devices they are.
    """

    async def listed(request: web.Request) -> web.Response:
        _check_asked_factory(request, gateway)
        return _page(request, gateway, denied=False)

    async def got(request: web.Request) -> web.Response:
        return web.json_response(shown(_device(request, gateway), gateway.factory))

    async def changed(request: web.Request) -> web.Response:
        body = await read_object(request)
        return web.json_response(_changed(gateway, _device(request, gateway), body))

    async def deleted(request: web.Request) -> web.Response:
        gateway.store.devices.delete(_device(request, gateway).uuid)
        return web.Response(status=204)

    async def denied(request: web.Request) -> web.Response:
        check_factory(request, gateway)
        return _page(request, gateway, denied=True)

    async def allowed(request: web.Request) -> web.Response:
        check_factory(request, gateway)
        uuid = request.match_info["uuid"]
        if not gateway.store.devices.allow(uuid):
            raise Refusal(404, f"the deny list has no device {uuid!r}")
        return web.Response(status=204)

    app.router.add_get("/ota/devices/", listed)
    app.router.add_get("/ota/devices/{id}/", got)
    app.router.add_patch("/ota/devices/{id}/", changed)
    app.router.add_delete("/ota/devices/{id}/", deleted)
    app.router.add_get("/ota/factories/{factory}/denied-devices/", denied)
    app.router.add_delete("/ota/factories/{factory}/denied-devices/{uuid}/", allowed)


def shown(device: Device, factory: str) -> dict[str, Any]:
    """A device as the API shows it."""
    return {
        "uuid": device.uuid,
        "name": device.name,
        "owner": USER_ID,
        "factory": factory,
        "device-group": device.group or "",
        "group": None if device.group is None else {"name": device.group},
        "last-seen": "" if device.last_seen is None else device.last_seen.isoformat(timespec="seconds"),
        "is-prod": device.production,
        "public-key": device.public_key,
        "change-meta": {"created-by": USER_ID, "created-at": device.created_at.isoformat(timespec="seconds")},
    }


def _page(request: web.Request, gateway: Gateway, *, denied: bool) -> web.Response:
    """One page of a list; `next` is where the one after it is, or null."""
    limit, page = _number(request, "limit", _PAGE, _PAGE), _number(request, "page", 1, _LAST_PAGE)
    start, store = limit * (page - 1), gateway.store.devices
    if asked := {name: value for name in _FILTERS if (value := request.query.get(name))}:
        matching = [
            device
            for device in store.list(denied=denied)
            if all(_FILTERS[name](device, value) for name, value in asked.items())
        ]
        total, found = len(matching), matching[start : start + limit]
    else:
        total, found = store.count(denied=denied), store.list(denied=denied, limit=limit, offset=start)
    following = _place(request, page + 1) if start + limit < total else None
    answer = {"devices": [shown(device, gateway.factory) for device in found], "total": total, "next": following}
    return web.json_response(answer)


def _place(request: web.Request, page: int) -> str:
    """Where another page is; with the host, since fioctl asks there as it stands."""
    with suppress(ValueError):  # a port that there cannot be
        if _HOST.fullmatch(request.host):
            return str(request.url.update_query(page=str(page)))
    raise Refusal(400, "the header Host must be a host with or without a port, for where the next page is")


def _like(device: Device, pattern: str) -> bool:
    """SQL's LIKE without regard to case: % is any text, _ any character, after a backslash they are themselves."""
    parts, characters = [], iter(pattern.casefold())
    for character in characters:
        wild = {"%": "*", "_": "?"}.get(character)
        literal = next(characters, character) if character == "\\" else character
        parts.append(wild or {"*": "[*]", "?": "[?]", "[": "[[]"}.get(literal, literal))
    # The standard library's patterns never backtrack over a text that they have passed.
    return fnmatch.fnmatchcase(device.name.casefold(), "".join(parts))


_FILTERS = {
    "uuid": lambda device, value: device.uuid.lower() == value.lower(),
    "group": lambda device, value: device.group == value,
    "name_ilike": _like,
}
"""What a list may be asked for; fioctl's other filters are about what a stand-in does not know."""


def _number(request: web.Request, name: str, default: int, highest: int) -> int:
    value = request.query.get(name) or str(default)
    if not (
        value.isascii()
        and value.isdigit()
        and len(value) <= len(str(_LAST_PAGE))
        and int(value) in range(1, highest + 1)
    ):
        raise Refusal(400, f"{name} must be a number from 1 to {highest}; it is {value[:20]!r}")
    return int(value)


def _check_asked_factory(request: web.Request, gateway: Gateway) -> None:
    named = request.query.get("factory") or gateway.factory
    if named != gateway.factory:
        raise Refusal(404, f"there is no factory {named!r} here")


def _device(request: web.Request, gateway: Gateway) -> Device:
    """The device that the path names: by its name, or by its UUID if the query says so. Denied ones are not there."""
    _check_asked_factory(request, gateway)
    named, store = request.match_info["id"], gateway.store.devices
    device = store.get(named) if request.query.get("by-uuid") == "1" else store.named(named)
    if device is None or device.denied:
        raise Refusal(404, f"there is no device {named!r}")
    return device


def _changed(gateway: Gateway, device: Device, body: dict[str, Any]) -> dict[str, Any]:
    """The device after a change of its name or group; an empty group takes it out of its group.

    Raises:
        Refusal: a field is unknown or not what it should be.
        Conflict: the name is another device's.
    """
    if not body or not body.keys() <= set(_CHANGES):
        raise Refusal(
            400, f"a change has some of {', '.join(_CHANGES)} and nothing else; this has {listed(map(repr, body))}"
        )
    values = {field: text(body, field) for field in body}
    for field, value in values.items():
        if value is not None and (fault := text_fault(value)):
            raise Refusal(400, f"{field} {fault}")
    if "name" in values and values["name"] is None:
        raise Refusal(400, "name must have 1 to 64 characters; it has none")
    if values.get("owner", USER_ID) != USER_ID:
        raise Refusal(400, f"owner must be a user of this factory, and there is one: {USER_ID}")
    name, group = values.get("name") or device.name, values.get("group", device.group)
    gateway.store.devices.change(device.uuid, name=name, group=group)
    changed = gateway.store.devices.get(device.uuid)
    return shown(changed or device, gateway.factory)
