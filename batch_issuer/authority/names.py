"""What may stand in a certificate's name: X.509 builders accept more than gateways, terminals and shells can bear."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from batch_issuer.figures import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LONGEST_HOST", "LONGEST_TEXT", "host_fault", "printable", "text_fault", "unit_fault"]

LONGEST_TEXT = 64
"""Characters of a common name or an organizational unit: ub-common-name, ub-organizational-unit-name (RFC 5280 A.1)."""

LONGEST_HOST = 253
"""Characters of a host name in text form (RFC 1035 section 2.3.4: 255 octets on the wire)."""

_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_UNPRINTABLE = ("C", "Zl", "Zp")
"""Unicode categories: control, format (bidirectional overrides), surrogate, private, unassigned; line separators."""


def text_fault(text: str) -> str | None:
    """Why `text` cannot be a common name or an organizational unit, or None if it can.

    Such text is 1 to 64 characters in Unicode normalization form C (RFC 5280 section 7.1 compares names by their
    octets in the end) without any that is not for printing: a line break forges a log line, U+202E reverses it.
    """
    if not 1 <= len(text) <= LONGEST_TEXT:
        return f"must have 1 to {LONGEST_TEXT} characters; it has {len(text)}"
    for character in text:
        if unicodedata.category(character).startswith(_UNPRINTABLE):
            return f"must have printable characters only; it has U+{ord(character):04X}"
    if not unicodedata.is_normalized("NFC", text):
        return "must be in Unicode normalization form C; it is not"
    return None


def unit_fault(units: Sequence[str], factory: str | None = None) -> str | None:
    """Why organizational units do not name a factory, or None if they do.

    Args:
        units: those of a subject.
        factory: which one it must be; None for any.
    """
    if len(units) == 1 and factory in (None, units[0]):
        return None
    rule = "must have the factory as its one organizational unit (OU)"
    return (
        f"{rule}; it has {len(units)}" if factory is None else f"{rule}, {factory!r}; it has {listed(map(repr, units))}"
    )


def printable(text: str) -> str:
    """The text on one line that cannot command a terminal: names in certificates come from anybody."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def host_fault(host: str) -> str | None:
    """Why `host` cannot be a DNS name of a server, or None if it can (RFC 1123 section 2.1, RFC 5890 section 2.3.1)."""
    if len(host) > LONGEST_HOST:
        return f"must have at most {LONGEST_HOST} characters; it has {len(host)}"
    if not host.isascii():
        return "must be in its ASCII form, xn--…; it has other characters"
    labels = host.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        return "must be labels of 1 to 63 letters, digits and inner hyphens with dots between them; it is not"
    if labels[-1].isdigit():
        return "must be a DNS name; it looks like an IP address"
    return None
