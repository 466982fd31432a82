"""A session with a PKCS#11 token, by python-pkcs11; every fault becomes a sentence.

Source: PKCS #11 Cryptographic Token Interface Base Specification 2.40.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING

import pkcs11
from pkcs11 import TokenFlag

from batch_issuer.errors import AuthorityError, BatchIssuerError, RunFailedError
from batch_issuer.figures import listed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pkcs11._pkcs11 import lib

__all__ = ["open_session", "telling", "token_fault"]

_LOCK_SECONDS = 30
_POLL_SECONDS = 0.01

_TRIED_ONCE = "it was tried once, and wrong PINs lock a token: make sure of it before you try again"

_FLAGS = {
    TokenFlag.USER_PIN_LOCKED: "the token is locked now",
    TokenFlag.USER_PIN_FINAL_TRY: "one more wrong PIN locks the token",
    TokenFlag.USER_PIN_COUNT_LOW: "the token counts wrong PINs",
}
"""What a token says of its PIN (section 3.2, CK_TOKEN_INFO), the worst first."""


@cache
def open_session(module: Path, label: str, pin: str) -> pkcs11.Session:
    """This process's one session with a token, logged in; made when it is first asked for.

    Logging in is the process's and not the session's (section 5.6), and a PIN is tried once: so the session is kept
    until the process ends. It must not be forked: whoever needs one in a child asks for it there.

    Args:
        module: the PKCS#11 library of the token's maker.
        label: of the token.
        pin: of its user.

    Raises:
        AuthorityError: there is no such module or token, it is locked, or it refuses the PIN.
        RunFailedError: it fails.
    """
    with _one_at_a_time(module):
        return _log_in(_find_token(_load(module), module, label), pin)


@contextmanager
def _one_at_a_time(module: Path) -> Iterator[None]:
    """Only one process of this machine opens a token of the module meanwhile.

    SoftHSM writes the token's file anew at each login, and a process that starts just then reads half of it and finds
    no token: of three processes that did nothing else, most openings failed. Signing is not disturbed.
    """
    try:
        fd = os.open(module, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise AuthorityError(f"the PKCS#11 module {module} cannot be opened: {error.strerror}") from None
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while time.monotonic() < deadline:  # anybody can hold a lock on a file that anybody can read: not for ever
            with suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(fd)


def _load(module: Path) -> lib:
    try:
        return pkcs11.lib(str(module))
    except pkcs11.PKCS11Error as error:
        if type(error) is pkcs11.PKCS11Error:  # of the loader; what the module itself says has a class of its own
            why = str(error).rpartition(f"{module}: ")[2]
            raise AuthorityError(f"{module} must be a PKCS#11 module; it cannot be loaded: {why}") from None
        raise AuthorityError(
            f"the PKCS#11 module {module} cannot be started ({_name(error)})",
            hint="its own configuration may be missing, such as the file that $SOFTHSM2_CONF names",
        ) from None


def _find_token(library: lib, module: Path, label: str) -> pkcs11.Token:
    tokens = []
    with telling(label):
        for slot in library.get_slots(token_present=True):
            with suppress(pkcs11.TokenNotPresent, pkcs11.TokenNotRecognised):
                tokens.append(slot.get_token())
    found = [token for token in tokens if token.label == label]
    if not found:
        there = listed(sorted({repr(token.label) for token in tokens if token.label}))
        raise AuthorityError(f"the PKCS#11 module {module} has no token labelled {label!r}; it has: {there}")
    if len(found) > 1:
        raise AuthorityError(
            f"one token must be labelled {label!r}; the PKCS#11 module {module} has {len(found)} of them",
            hint="take the others away, or give them other labels",
        )
    return found[0]


def _log_in(token: pkcs11.Token, pin: str) -> pkcs11.Session:
    if token.flags & TokenFlag.USER_PIN_LOCKED:
        raise _locked(token.label)
    try:
        return token.open(user_pin=pin)
    except pkcs11.PKCS11Error as error:
        raise _login_fault(error, token) from None


def _login_fault(error: pkcs11.PKCS11Error, token: pkcs11.Token) -> BatchIssuerError:
    if isinstance(error, pkcs11.PinIncorrect | pkcs11.PinInvalid | pkcs11.PinLenRange):
        return AuthorityError(f"the token {token.label!r} refused the PIN{_flags_now(token)}", hint=_TRIED_ONCE)
    if isinstance(error, pkcs11.PinLocked):
        return _locked(token.label)
    if isinstance(error, pkcs11.PinExpired | pkcs11.UserPinNotInitialized):
        return AuthorityError(
            f"the token {token.label!r} has no PIN that is valid ({_name(error)})",
            hint="its security officer sets one, with the tools of the token's maker",
        )
    if isinstance(error, pkcs11.SessionCount):
        return AuthorityError(f"the token {token.label!r} allows no more sessions", hint="take fewer --workers")
    return token_fault(token.label, _name(error))


def _locked(label: str) -> AuthorityError:
    return AuthorityError(
        f"the PIN of the token {label!r} is locked",
        hint="its security officer can unlock it, with the tools of the token's maker",
    )


def _flags_now(token: pkcs11.Token) -> str:
    with suppress(pkcs11.PKCS11Error):
        flags = token.slot.get_token().flags
        return next((f"; {told}" for flag, told in _FLAGS.items() if flags & flag), "")
    return ""


@contextmanager
def telling(label: str) -> Iterator[None]:
    """What the token `label` says while it is used becomes a sentence.

    Raises:
        RunFailedError: it fails or is gone.
    """
    try:
        yield
    except pkcs11.PKCS11Error as error:
        raise token_fault(label, _name(error)) from None


def token_fault(label: str, said: str) -> RunFailedError:
    """The sentence about a token that fails, or is gone, in the middle of its work."""
    return RunFailedError(f"the token {label!r} failed or is gone ({said})")


def _name(error: pkcs11.PKCS11Error) -> str:
    return type(error).__name__
