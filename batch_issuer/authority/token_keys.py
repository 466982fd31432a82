"""The P-256 keys in a PKCS#11 token: found by their label, made, and signed with."""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import sha256
from itertools import cycle
from typing import TYPE_CHECKING

import pkcs11
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11.types import SignMixin

from batch_issuer.authority.token_calls import TokenCallError, sign_with
from batch_issuer.authority.token_session import telling, token_fault
from batch_issuer.errors import AuthorityError
from batch_issuer.figures import listed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pkcs11.types import Object

__all__ = ["generate_key", "has_key", "private_key", "session_copy", "signer"]

_P256 = bytes.fromhex("06082a8648ce3d030107")
"""CKA_EC_PARAMS of a P-256 key: the OBJECT IDENTIFIER prime256v1."""

_OTHER_CURVES = {
    bytes.fromhex("06052b8104000a"): "secp256k1",
    bytes.fromhex("06052b81040022"): "P-384",
    bytes.fromhex("06052b81040023"): "P-521",
}

_SOFTHSM = "SoftHSM project"
_SOFTHSM_TURNS = 64

_POINT_LENGTH = 65
_HALF = 32
_ID_LENGTH = 8


def signer(module: Path, session: pkcs11.Session, label: str) -> Callable[[bytes], bytes]:
    """What signs with the private key of that label: DER `ECDSA-Sig-Value` over the SHA-256 of its argument.

    The token is given the digest (CKM_ECDSA): every token with P-256 has that mechanism. The key is looked up by its
    label and not by CKA_ID, which fioctl's builds give the root's key differently.

    Args:
        module: the library that the session is of.
        session: logged in.
        label: the key's.

    Raises:
        AuthorityError: there is not one key of that label, on P-256 and allowed to sign.
        RunFailedError: the token fails or is gone; what is returned raises the same.
    """
    token, number = session.token.label, int.from_bytes
    key = private_key(session, label)
    turns = [sign_with(module, session, key)]
    if copy := session_copy(session, key):
        # At times the key itself, which is not found any more when the token is gone.
        turns += [sign_with(module, session, copy)] * (_SOFTHSM_TURNS - 1)
    turn = cycle(turns)

    def signature(data: bytes) -> bytes:
        try:
            pair = next(turn)(sha256(data).digest())
        except TokenCallError as error:
            raise token_fault(token, str(error)) from None
        return encode_dss_signature(number(pair[:_HALF]), number(pair[_HALF:]))

    return signature


def session_copy(session: pkcs11.Session, key: Object) -> Object | None:
    """A copy of the key that belongs to the session, where that signs faster: with SoftHSM; None elsewhere.

    For each signature by a key of its token SoftHSM opens, locks and reads two files, 12 of its 43 µs; by the copy
    none. The copy has the key's protection and ends with the session. No other token is asked for one: there it may
    cost much, or be seen as an attack.
    """
    if session.token.manufacturer_id != _SOFTHSM:
        return None
    with suppress(pkcs11.PKCS11Error):
        copy: Object = key.copy({Attribute.TOKEN: False})
        return copy
    return None


def private_key(session: pkcs11.Session, label: str) -> SignMixin:
    """The one private key with that label: on P-256, and allowed to sign.

    Raises:
        AuthorityError: there is none, more than one, or another.
        RunFailedError: the token fails.
    """
    token = session.token.label
    with telling(token):
        found = _labelled(session, label, ObjectClass.PRIVATE_KEY)
        if not found:
            others = session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.TOKEN: True})
            there = listed(sorted({repr(key[Attribute.LABEL]) for key in others}))
            raise AuthorityError(
                f"the token {token!r} has no private key labelled {label!r}; it has: {there}",
                hint="the root's key is labelled root-ca, a device CA's as the CA is named",
            )
        if len(found) > 1:
            raise AuthorityError(
                f"one private key in the token {token!r} must be labelled {label!r}; {len(found)} are",
                hint="keys are told apart by their labels: give other labels to those that are not meant",
            )
        fault = _fault(found[0])
    if fault:
        raise AuthorityError(f"the key {label!r} in the token {token!r} must be a P-256 key that may sign; {fault}")
    key = found[0]
    assert isinstance(key, SignMixin)  # noqa: S101 - it may sign
    return key


def _fault(key: Object) -> str | None:
    kind = key[Attribute.KEY_TYPE]
    if kind is not KeyType.EC:
        return f"it is of type {kind.name}"
    try:
        parameters = key[Attribute.EC_PARAMS]
    except (pkcs11.AttributeSensitive, pkcs11.AttributeTypeInvalid):
        parameters = _P256  # the token does not tell; a trial signature will
    if parameters != _P256:
        return f"it is on {_OTHER_CURVES.get(parameters, 'another curve')}"
    return None if key[Attribute.SIGN] else "it may not sign"


def has_key(session: pkcs11.Session, label: str) -> bool:
    """Whether a private or public key in the token has that label.

    Raises:
        RunFailedError: the token fails.
    """
    with telling(session.token.label):
        return any(_labelled(session, label, kind) for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY))


def _labelled(session: pkcs11.Session, label: str, kind: ObjectClass) -> list[Object]:
    return list(session.get_objects({Attribute.CLASS: kind, Attribute.TOKEN: True, Attribute.LABEL: label}))


def generate_key(session: pkcs11.Session, label: str) -> ec.EllipticCurvePublicKey:
    """Make a P-256 key that never leaves the token and signs, nothing else; returns its public key.

    Raises:
        RunFailedError: the token fails or will not.
    """
    token = session.token
    with telling(token.label), token.open(rw=True) as writing:  # logged in already, as this process is
        curve = writing.create_domain_parameters(KeyType.EC, {Attribute.EC_PARAMS: _P256}, local=True)
        public, _ = curve.generate_keypair(
            id=os.urandom(_ID_LENGTH),  # other programs pair the two objects by it
            label=label,
            store=True,
            capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
            mechanism=Mechanism.EC_KEY_PAIR_GEN,
            private_template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
        )
        # DER OCTET STRING of the point; some tokens give the point alone.
        point = public[Attribute.EC_POINT][-_POINT_LENGTH:]
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
