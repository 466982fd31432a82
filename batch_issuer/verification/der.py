"""A strict reader of DER (X.690 section 10): definite lengths in their shortest form, nothing left over."""

from __future__ import annotations

__all__ = ["DerError", "content", "element", "split"]

_MANY_OCTETS = 0x1F  # X.690 section 8.1.2.4: all bits of a tag's number set
_LONG_FORM = 0x80  # X.690 section 8.1.3.5: the length's first octet says how many follow

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
    """An element with these contents in it, one after the other."""
    inner = b"".join(contents)
    size = len(inner)
    if size < _LONG_FORM:
        return bytes([tag, size]) + inner
    length = size.to_bytes(-(-size.bit_length() // 8))
    return bytes([tag, _LONG_FORM | len(length)]) + length + inner


def _span(octets: bytes, start: int) -> tuple[int, int]:
    """Where the content of the element at `start` begins and where it ends."""
    try:
        tag, length, inner = octets[start], octets[start + 1], start + 2
    except IndexError:
        raise DerError("an element is cut off in its header") from None
    if tag & _MANY_OCTETS == _MANY_OCTETS:
        raise DerError("a tag of many octets, which no certificate has")
    if length >= _LONG_FORM:
        count = length - _LONG_FORM
        length = int.from_bytes(octets[inner : inner + count])
        inner += count
        if not 1 <= count <= _LONGEST_LENGTH or length < _LONG_FORM or length >> (8 * (count - 1)) == 0:
            raise DerError("a length that is indefinite, too long or not in its shortest form")
    if inner + length > len(octets):
        raise DerError("an element is cut off")
    return inner, inner + length
