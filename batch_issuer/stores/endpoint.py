"""What the environment says of how a store is reached, and what of it is refused."""

from __future__ import annotations

import os
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from batch_issuer.errors import RefusedError

__all__ = ["client_options"]

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_PREFIXES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}
_OPTIONS = ("connect_timeout", "read_timeout", "timeout", "proxy_url", "proxy_ca_certificate", "proxy_excludes")
_FLAGS = ("allow_http", "allow_invalid_certificates")
_TIMEOUT = "300s"
"""For one request, whole: obstore's 30 s are too short for a part of 25 MB on a slow line."""


def client_options(scheme: str) -> dict[str, Any]:
    """How obstore's HTTP client is to be set up: by its own variables, which it ignores once it is given any option.

    Raises:
        RefusedError: the endpoint is http beyond this machine, and AWS_ALLOW_HTTP does not say that it may be; or it
            has a password in it.
    """
    prefix = _PREFIXES[scheme]
    found = {name: os.environ.get(prefix + name.upper()) for name in (*_OPTIONS, *_FLAGS)}
    options: dict[str, Any] = {name: value for name in _OPTIONS if (value := found[name])}
    options |= {name: True for name in _FLAGS if (found[name] or "").lower() in {"1", "true", "yes", "on"}}
    options.setdefault("timeout", _TIMEOUT)
    if scheme == "s3" and _plain_endpoint(allowed="allow_http" in options):
        options["allow_http"] = True
    return options


def _plain_endpoint(*, allowed: bool) -> bool:
    """Whether the endpoint is one of http that may be used."""
    plain = False
    for name in _ENDPOINTS:
        endpoint = urlsplit(os.environ.get(name, ""))
        if "@" in endpoint.netloc:
            raise RefusedError(f"{name} has a user name or password in it", hint="credentials have their own variables")
        if endpoint.scheme == "http":
            if not allowed and not _is_loopback(endpoint.hostname or ""):
                raise RefusedError(
                    f"{name} is http://{endpoint.hostname}: private keys would pass the network in the clear",
                    hint="take https; in a network that you trust, AWS_ALLOW_HTTP=true",
                )
            plain = True
    return plain


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
