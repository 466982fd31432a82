"""Encoded values as a person reads them, for messages; whatever they hold, the text is one printable line."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from batch_issuer.verification.der import DerError, content, split

__all__ = ["moment", "printable", "shown", "shown_name", "shown_text"]

_SHOWN = 64
_SEQUENCE, _SET, _OBJECT_IDENTIFIER = 0x30, 0x31, 0x06
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_LAST_UTC_TIME_YEAR = 2049
_UTC_TIME_CENTURY_BEGINS = 50
_ATTRIBUTES = {"550403": "CN", "55040b": "OU", "55040f": "businessCategory"}
_STRINGS = {0x0C: "", 0x13: "PrintableString ", 0x16: "IA5String ", 0x14: "TeletexString "}


def shown(octets: bytes) -> str:
    """Octets in hex, shortened."""
    return octets[:_SHOWN].hex() + ("…" if len(octets) > _SHOWN else "")


def shown_text(text: str) -> str:
    """Text in quotes, shortened; what is not printable is escaped."""
    return repr(text[:_SHOWN]) + ("…" if len(text) > _SHOWN else "")


def printable(text: str) -> str:
    """Text as one printable line, whole: names may come from files that someone else wrote; no terminal obeys them."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def shown_name(name: bytes) -> str:
    """A Name (RFC 5280 section 4.1.2.4) in its own order, with string types that are not UTF8String; else its hex."""
    try:
        relative_names = split(content(name, _SEQUENCE))
        parts = [_shown_attribute(one) for some in relative_names for one in split(content(some, _SET))]
    except ValueError:
        return shown(name)
    return ", ".join(parts) or "empty"


def _shown_attribute(attribute: bytes) -> str:
    kind, value = split(content(attribute, _SEQUENCE))
    oid = content(kind, _OBJECT_IDENTIFIER).hex()
    string_type = _STRINGS.get(value[0], f"type {value[0]:#04x} ")
    return f"{_ATTRIBUTES.get(oid, oid)}={string_type}{shown_text(content(value, value[0]).decode('utf-8'))}"


def moment(time: bytes) -> datetime:
    """The moment of a Time, by the rules of RFC 5280 section 4.1.2.5.

    Raises:
        DerError: it is not UTCTime up to 2049 or GeneralizedTime after it, in seconds and Zulu, or is no moment.
    """
    digits = r"\d{12}Z" if time[:1] == bytes([_UTC_TIME]) else r"\d{14}Z"
    tag = _UTC_TIME if time[:1] == bytes([_UTC_TIME]) else _GENERALIZED_TIME
    text = content(time, tag).decode("latin-1")
    if not re.fullmatch(digits, text, re.ASCII):
        raise DerError(f"the time {shown_text(text)} is not in whole seconds and Zulu")
    if tag == _UTC_TIME:
        text = ("20" if int(text[:2]) < _UTC_TIME_CENTURY_BEGINS else "19") + text
    found = datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    if tag == _GENERALIZED_TIME and found.year <= _LAST_UTC_TIME_YEAR:
        raise DerError(f"the time {text} is GeneralizedTime, expected UTCTime up to {_LAST_UTC_TIME_YEAR}")
    return found
