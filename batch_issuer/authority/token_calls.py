"""C_SignInit and C_Sign called directly: what a run does with a token millions of times, and nothing else.

python-pkcs11 opens the session and finds the key; its own `sign` costs 4 µs more, and asks the token for the length of
each signature before it, which through a library that forwards every call is half as many round trips again.

Source: PKCS #11 Cryptographic Token Interface Base Specification 2.40, sections 3.5, 5.2 and 5.11; pkcs11f.h.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pkcs11
    from pkcs11.types import Object

__all__ = ["SIGNATURE_LENGTH", "TokenCallError", "sign_with"]

SIGNATURE_LENGTH = 64
"""Octets of CKM_ECDSA's signature by a P-256 key: r and s, 32 each."""

_CKM_ECDSA = 0x1041
_DIGEST_LENGTH = 32
_SIGN_INIT, _SIGN = 42, 43  # places in CK_FUNCTION_LIST, whose functions are in the order of pkcs11f.h

_NAMES = {
    0x05: "CKR_GENERAL_ERROR",
    0x06: "CKR_FUNCTION_FAILED",
    0x30: "CKR_DEVICE_ERROR",
    0x31: "CKR_DEVICE_MEMORY",
    0x32: "CKR_DEVICE_REMOVED",
    0x60: "CKR_KEY_HANDLE_INVALID",
    0x68: "CKR_KEY_FUNCTION_NOT_PERMITTED",
    0x70: "CKR_MECHANISM_INVALID",
    0x82: "CKR_OBJECT_HANDLE_INVALID",
    0xB0: "CKR_SESSION_CLOSED",
    0xB3: "CKR_SESSION_HANDLE_INVALID",
    0xE0: "CKR_TOKEN_NOT_PRESENT",
    0x101: "CKR_USER_NOT_LOGGED_IN",
    0x190: "CKR_CRYPTOKI_NOT_INITIALIZED",
}


class TokenCallError(Exception):
    """The token did not sign; the text is the name of what it returned, or its number."""


class _Mechanism(ctypes.Structure):
    """CK_MECHANISM."""

    _fields_ = (
        ("mechanism", ctypes.c_ulong),
        ("parameter", ctypes.c_void_p),
        ("parameter_length", ctypes.c_ulong),
    )


class _FunctionList(ctypes.Structure):
    """CK_FUNCTION_LIST up to C_Sign: the version, then pointers."""

    _fields_ = (("version", ctypes.c_ubyte * 2), ("functions", ctypes.c_void_p * (_SIGN + 1)))


_SignInit = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong)
_Sign = ctypes.CFUNCTYPE(
    ctypes.c_ulong, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_void_p
)


def sign_with(module: Path, session: pkcs11.Session, key: Object) -> Callable[[bytes], bytes]:
    """A function that gives the signature, r and s, over a digest of 32 octets; it raises TokenCallError.

    Args:
        module: the library that the session is of.
        session: logged in.
        key: a P-256 key that may sign, found in this session.
    """
    library = ctypes.CDLL(str(module))  # the one that is loaded already
    there = ctypes.POINTER(_FunctionList)()
    if returned := library.C_GetFunctionList(ctypes.byref(there)):
        raise TokenCallError(_name(returned))
    functions = there.contents.functions
    begin, sign = _SignInit(functions[_SIGN_INIT]), _Sign(functions[_SIGN])
    mechanism, signature = _Mechanism(_CKM_ECDSA, None, 0), ctypes.create_string_buffer(SIGNATURE_LENGTH)
    length = ctypes.c_ulong(SIGNATURE_LENGTH)
    mechanism_there, length_there = ctypes.addressof(mechanism), ctypes.addressof(length)
    session_handle: int = session.handle  # type: ignore[attr-defined] # it is there, and not in the stubs
    key_handle = key.handle

    def signed(digest: bytes, _kept: object = (library, mechanism)) -> bytes:
        length.value = SIGNATURE_LENGTH
        returned = begin(session_handle, mechanism_there, key_handle) or sign(
            session_handle, digest, _DIGEST_LENGTH, signature, length_there
        )
        if returned or length.value != SIGNATURE_LENGTH:
            raise TokenCallError(_name(returned) if returned else f"a signature of {length.value} octets")
        return signature.raw

    return signed


def _name(returned: int) -> str:
    return _NAMES.get(returned, f"CKR {returned:#x}")
