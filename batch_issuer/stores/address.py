"""Addresses of places in object stores, `s3://bucket/prefix`: what they may be, and nothing secret in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from batch_issuer.errors import RefusedError

__all__ = ["StoreAddress", "is_address", "parse_address"]

_SCHEMES = ("s3", "gs", "az")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
# Buckets of S3 and GCS, containers of Azure; their own rules are narrower, and the store knows them.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
# No blank, `%`, `?`, `#` or `\`: the same octets in an address, a key, a shell and a log.
_SEGMENT = re.compile(r"[A-Za-z0-9_@:=,+~!'()*.-]+")


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A place in an object store; its text is its address. No secret.

    Attributes:
        scheme: `s3`, `gs` or `az`.
        bucket: the bucket or container.
        path: what keys there begin with, or a key; without a slash at either end.
    """

    scheme: str
    bucket: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.path}"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> StoreAddress:
        """The address without its last part."""
        return StoreAddress(self.scheme, self.bucket, self.path.rpartition("/")[0])


def is_address(text: str) -> bool:
    """Whether a text is meant as an address and not as a path."""
    return _SCHEME.match(text) is not None


def parse_address(text: str) -> StoreAddress:
    """The address that a text is.

    Raises:
        RefusedError: it is none that can be used. The text is not shown if it may have a password in it.
    """
    parts = urlsplit(text)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise RefusedError(
            "an address of an object store has no user name, password or query in it: expected s3://bucket/prefix",
            hint="credentials go by the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    if parts.scheme not in _SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in _SCHEMES)
        raise RefusedError(f"{text!r} begins with {parts.scheme}://, expected one of {known}")
    path = parts.path.strip("/")
    segments = path.split("/")
    fit = all(_SEGMENT.fullmatch(segment) and segment not in {".", ".."} for segment in segments)
    if not _BUCKET.fullmatch(parts.netloc) or not fit or len(path) > _LONGEST:
        raise RefusedError(
            f"{text!r} is no address of a place in an object store: expected {parts.scheme}://bucket/prefix",
            hint="a prefix has letters, digits and -_.=+,:~!'()*@ between single slashes, 500 characters at most",
        )
    return StoreAddress(parts.scheme, parts.netloc, path)


_LONGEST = 500
"""Characters of a prefix: keys have 1,024 octets at most in S3, and the longest name that a run adds has about 100."""
