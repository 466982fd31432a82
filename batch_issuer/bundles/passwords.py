"""Passwords of PKCS#12 files: what they must be when they are given, and how they are made."""

from __future__ import annotations

import os

from batch_issuer.errors import RefusedError

__all__ = ["SHORTEST_PASSWORD", "check_password", "random_passwords"]

SHORTEST_PASSWORD = 12
_LONGEST_PASSWORD = 1023
"""As of passphrases for CA keys: what every OpenSSL reads."""

_ALPHABET = b"0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32 in lower case: no i, l, o or u, which people take for something else."""

_TYPEABLE = bytes(_ALPHABET[octet % len(_ALPHABET)] for octet in range(256))
_RANDOM_LENGTH = 26
"""Characters of a password that is made: 5 bits each, 130 bits in all, which no number of guesses reaches."""


def check_password(password: bytes) -> None:
    """Is it fit for PKCS#12 files?

    Raises:
        RefusedError: it is shorter or longer, or not printable ASCII. Other characters have two encodings within one
            file, BMPString for the MAC (RFC 7292 appendix B.1) and UTF-8 for the keys (RFC 8018), and software differs.
    """
    if not all(0x20 <= octet <= 0x7E for octet in password):  # noqa: PLR2004 - the printable characters of ASCII
        raise RefusedError(
            "a password for PKCS#12 bundles must be one line of printable ASCII; it is not",
            hint="other characters are encoded differently from one importing software to the next",
        )
    if not SHORTEST_PASSWORD <= len(password) <= _LONGEST_PASSWORD:
        raise RefusedError(
            f"a password for PKCS#12 bundles must have {SHORTEST_PASSWORD} to {_LONGEST_PASSWORD} characters; "
            f"it has {len(password)}",
            hint="who has a bundle tries passwords by the million; --p12-random-passwords makes strong ones",
        )


def random_passwords(count: int) -> list[bytes]:
    """So many passwords, each 26 characters of a 32-letter alphabet out of the system's randomness."""
    octets = os.urandom(_RANDOM_LENGTH * count).translate(_TYPEABLE)
    return [octets[start : start + _RANDOM_LENGTH] for start in range(0, len(octets), _RANDOM_LENGTH)]
