"""Who can open sealed parts: age recipients, which are public, and the identities that belong to them, which are not.

age: https://age-encryption.org/v1; of its kinds X25519 (`age1…`) and the two of SSH (ssh-ed25519, ssh-rsa) are taken.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batch_issuer.errors import RefusedError
from batch_issuer.extras import need_extra

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["AgeIdentities", "checked_recipients", "need_age", "open_recipients", "read_identities"]

_SSH = "ssh-"
_SECRET = "AGE-SECRET-KEY-"  # noqa: S105 - how every secret begins
_PEM = b"-----BEGIN "
_AGE_FILE = (b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED FILE-----")
_OTHERS = 0o077
"""Mode bits of everybody but the owner."""

_LARGEST = 1 << 20
"""Octets of a file of identities, at most."""

_SHOWN = 70
_RECIPIENT_HINT = "age1… is the line `# public key:` of the file that age-keygen made"
_IDENTITY_HINT = "it is the file that age-keygen made, or an ed25519 or RSA private key of SSH without passphrase"


def need_age() -> None:
    """Whether the package that seals and opens is installed.

    Raises:
        RefusedError: it is not.
    """
    need_extra("seal", "pyrage")


def checked_recipients(texts: Sequence[str]) -> tuple[str, ...]:
    """Recipients as `run.json` has them: each once, in order, of SSH keys without their comment.

    Raises:
        RefusedError: one is none; pyrage is not installed.
    """
    if not texts:
        return ()
    need_age()
    found = set()
    for number, text in enumerate(texts, start=1):
        normal = " ".join(text.split()[:2]) if text.startswith(_SSH) else text
        _open_recipient(normal, number)
        found.add(normal)
    return tuple(sorted(found))


def open_recipients(texts: Sequence[str]) -> list[Any]:
    """Recipients as pyrage has them.

    Raises:
        RefusedError: one is none.
    """
    return [_open_recipient(text, number) for number, text in enumerate(texts, start=1)]


def _open_recipient(text: str, number: int) -> Any:
    import pyrage  # noqa: PLC0415 - an extra

    kind = pyrage.ssh.Recipient if text.startswith(_SSH) else pyrage.x25519.Recipient
    try:
        return kind.from_str(text)
    except pyrage.RecipientError:
        pass
    if _SECRET in text.upper() or "PRIVATE KEY" in text:
        raise RefusedError(
            f"recipient {number} must be a public key; it is a private one",
            hint="it stood in a command line, which others can see: make a new one, and give its `# public key:`",
        )
    raise RefusedError(
        f"recipient {number} must be an age recipient, age1… or an SSH key ssh-ed25519 … or ssh-rsa …; "
        f"it is {text[:_SHOWN]!r}",
        hint=_RECIPIENT_HINT,
    )


@dataclass(frozen=True, slots=True)
class AgeIdentities:
    """What opens sealed parts; it travels to worker processes, and is shown by no repr.

    Attributes:
        secrets: `AGE-SECRET-KEY-1…`, or the PEM text of an SSH private key.
    """

    secrets: tuple[bytes, ...] = field(repr=False)

    def open(self) -> list[Any]:
        """The identities as pyrage has them."""
        return [_open_identity(secret) for secret in self.secrets]


def read_identities(paths: Sequence[Path]) -> tuple[AgeIdentities | None, list[str]]:
    """The identities in files, and sentences about what is allowed and not right; None of no files.

    A file is one that age-keygen made (one identity a line, comments after `#`) or an SSH private key.

    Raises:
        RefusedError: a file cannot be read, has no identity, or one that is encrypted or of another kind; pyrage is
            not installed.
    """
    if not paths:
        return None, []
    need_age()
    secrets: list[bytes] = []
    warnings = []
    for path in paths:
        text, mode = _read(path)
        if mode & _OTHERS:
            warnings.append(f"the identity file {path} must be its owner's alone, mode 0600; it has mode {mode:04o}")
        secrets += _secrets(path, text)
    return AgeIdentities(tuple(dict.fromkeys(secrets))), warnings


def _read(path: Path) -> tuple[bytes, int]:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST), stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    except OSError as error:
        raise RefusedError(f"the identity file {path} cannot be read: {error.strerror}") from None


def _secrets(path: Path, text: bytes) -> list[bytes]:
    if text.startswith(_AGE_FILE):
        raise RefusedError(
            f"the identity file {path} must be in the clear; it is encrypted by age with a passphrase",
            hint=f"decrypt it to a file in memory: age --decrypt --output /dev/shm/identity {path}",
        )
    if text.lstrip().startswith(_PEM):
        return [_checked(path, "its key", text)]
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    found = [_checked(path, f"line {number}", line) for number, line in lines if line and not line.startswith(b"#")]
    if not found:
        raise RefusedError(f"the identity file {path} must have an identity; it has none", hint=_IDENTITY_HINT)
    return found


def _checked(path: Path, place: str, secret: bytes) -> bytes:
    import pyrage  # noqa: PLC0415 - an extra

    try:
        _open_identity(secret)
    except pyrage.IdentityError as error:
        encrypted = "must be decrypted" in str(error)
        wrong = "encrypted with a passphrase" if encrypted else "none that this program can use"
        raise RefusedError(
            f"{place} of the identity file {path} must be an age identity; it is {wrong}", hint=_IDENTITY_HINT
        ) from None
    return secret


def _open_identity(secret: bytes) -> Any:
    import pyrage  # noqa: PLC0415 - an extra

    if secret.lstrip().startswith(_PEM):
        return pyrage.ssh.Identity.from_buffer(secret)
    return pyrage.x25519.Identity.from_str(secret.decode(errors="replace"))
