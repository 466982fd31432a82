"""A strict reader of DER (X.690 section 10): definite lengths in their shortest form, nothing left over."""

from __future__ import annotations

__all__ = ["DerError", "content", "element", "split"]

_LONGEST_LENGTH = 3
"""Octets of a length: enough for 16 MiB, far beyond any certificate."""


class DerError(ValueError):
    """Octets that are not DER, or not what was expected there."""


def split(octets: bytes) -> list[bytes]:
    """The elements that fill `octets`, one after the other, each with its own tag and length.

    Raises:
        DerError: they do not.
    """
    elements, start = [], 0
    while start < len(octets):
        end = _span(octets, start)[1]
        elements.append(octets[start:end])
        start = end
    return elements


def content(whole: bytes, tag: int) -> bytes:
    """The content of one element that must have `tag` and fill `whole`.

    Raises:
        DerError: it has another tag, is cut off, or something follows it.
    """
    start, end = _span(whole, 0)
    if whole[0] != tag:
        raise DerError(f"tag {whole[0]:#04x}, expected {tag:#04x}")
    if end != len(whole):
        raise DerError(f"{len(whole) - end} octets follow the element")
    return whole[start:]


def element(tag: int, *contents: bytes) -> bytes:
    """An element with these contents in it; together they have less than 64 KiB."""
    inner = b"".join(contents)
    size = len(inner)
    if size < 0x80:
        length = bytes([size])
    else:
        length = bytes([0x81, size]) if size <= 0xFF else bytes([0x82, size >> 8, size & 0xFF])
    return bytes([tag]) + length + inner


def _span(octets: bytes, start: int) -> tuple[int, int]:
    """Where the content of the element at `start` begins and where it ends."""
    try:
        tag, length, inner = octets[start], octets[start + 1], start + 2
    except IndexError:
        raise DerError("an element is cut off in its header") from None
    if tag & 0x1F == 0x1F:
        raise DerError("a tag of many octets, which no certificate has")
    if length >= 0x80:
        count = length & 0x7F
        length = int.from_bytes(octets[inner : inner + count])
        inner += count
        if not 1 <= count <= _LONGEST_LENGTH or length < 0x80 or length >> (8 * (count - 1)) == 0:
            raise DerError("a length that is indefinite, too long or not in its shortest form")
    if inner + length > len(octets):
        raise DerError("an element is cut off")
    return inner, inner + length
