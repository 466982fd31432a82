"""A strict reader of PEM (RFC 7468): one block, lines of 64 characters, nothing before and nothing after."""

from __future__ import annotations

from binascii import Error, a2b_base64, b2a_base64

__all__ = ["PemError", "unwrap"]

_LINE = 64
_LEAST = 3
"""Line feeds in a block of one line."""


class PemError(ValueError):
    """Text that is not exactly one PEM block; its message never shows the content, which may be a key."""


def unwrap(text: bytes, label: bytes) -> bytes:
    """The octets in a block.

    Args:
        text: the file.
        label: what must stand after BEGIN and END.

    Raises:
        PemError: it is anything else than this one block.
    """
    head, *lines, last, foot, rest = text.split(b"\n") if text.count(b"\n") >= _LEAST else [b""] * 4
    if head != b"-----BEGIN %b-----" % label or foot != b"-----END %b-----" % label or rest:
        raise PemError(f"it is not exactly one PEM block {label.decode()!r} with a line feed at its end")
    if not 0 < len(last) <= _LINE or any(len(line) != _LINE for line in lines):
        raise PemError(f"its lines do not have {_LINE} characters each")
    encoded = b"".join(lines) + last
    try:
        octets = a2b_base64(encoded, strict_mode=True)
    except Error:
        raise PemError("its lines are not base64") from None
    if b2a_base64(octets, newline=False) != encoded:
        raise PemError("its base64 is not canonical")
    return octets
