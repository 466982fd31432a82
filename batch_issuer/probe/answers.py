"""What a gateway's answers mean: refusals by their words, documents, and whom it takes a device for."""

from __future__ import annotations

import json

from batch_issuer.manifest.columns import shorten
from batch_issuer.probe.faults import ProbeError

__all__ = ["check_status", "confirms", "parsed"]

_OK = 200
_REFUSALS = (
    (403, "no client certificate", "no-certificate"),
    (403, "deleted", "deleted"),
    (403, "disabled", "ca-disabled"),
    (502, "key rotation", "key-changed"),
)
"""Status, words of the body in lower case, code: how dg-satellite and `gateway serve` refuse a device."""


def check_status(path: str, status: int, body: bytes, device_uuid: str) -> None:
    """Whether a request was granted.

    Args:
        path: of the request.
        status: of the answer.
        body: the answer's.
        device_uuid: who asked.

    Raises:
        ProbeError: it was refused: `no-certificate`, `deleted`, `ca-disabled`, `key-changed` by the answer's words,
            `http-status` for anything else.
    """
    if status == _OK:
        return
    said = _said(body, device_uuid)
    code = next((code for number, words, code in _REFUSALS if number == status and words in said.lower()), None)
    raise ProbeError(code or "http-status", f"GET {path}: {status}" + (f", {said}" if said else ""))


def parsed(path: str, body: bytes) -> dict[str, object]:
    """The JSON object that an answer must be.

    Raises:
        ProbeError: `bad-answer`: it is none.
    """
    values = _json(body)
    if not isinstance(values, dict):
        raise ProbeError("bad-answer", f"GET {path}: not a JSON object")
    return values


def confirms(values: dict[str, object], device_uuid: str, *, production: bool) -> bool:
    """Whether an answer to GET /device names the device and its flag.

    Servers spell the fields in more than one way: `Uuid`, `uuid`; `IsProd`, `is_prod`, `is-prod`, `production`.

    Args:
        values: the answer.
        device_uuid: who asked.
        production: what its certificate says.

    Raises:
        ProbeError: `wrong-device` or `production-mismatch`.
    """
    plain = {name.replace("_", "").replace("-", "").lower(): value for name, value in values.items()}
    uuid, flag = plain.get("uuid"), plain.get("isprod", plain.get("production"))
    if uuid is not None and uuid != device_uuid:
        raise ProbeError("wrong-device", "GET /device: another UUID")
    if flag is not None and flag is not production:
        raise ProbeError("production-mismatch", f"GET /device: {shorten(flag)}, the certificate: {production}")
    return uuid is not None and flag is not None


def _said(body: bytes, device_uuid: str) -> str:
    """What the gateway said besides the status, the same for all devices of which it says the same."""
    values = _json(body)
    message = (values.get("msg") or values.get("message")) if isinstance(values, dict) else None
    text = str(message or body.decode("utf-8", "replace").strip())
    return shorten(text.replace(device_uuid, "…"))


def _json(body: bytes) -> object:
    try:
        values: object = json.loads(body)
    except (ValueError, RecursionError):  # what is no UTF-8, or nested without end, too
        return None
    return values
