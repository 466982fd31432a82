"""The factory's root: its certificate, checked, and the key that signs everything below it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batch_issuer.authority import checks
from batch_issuer.authority.layout import PkiDirectory
from batch_issuer.authority.names import unit_fault
from batch_issuer.authority.signers import SigningKey, check_pair
from batch_issuer.authority.tokens import ROOT_LABEL, find_key
from batch_issuer.errors import AuthorityError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from cryptography import x509

    from batch_issuer.authority.signers import Passphrase, SignerSource
    from batch_issuer.authority.tokens import Token

__all__ = ["Root", "check_root", "load_root", "read_root", "root_factory"]


@dataclass(frozen=True, slots=True)
class Root:
    """A root that was checked, with its key.

    Attributes:
        certificate: its certificate.
        factory: its organizational unit.
        key: what signs. Not shown by repr.
    """

    certificate: x509.Certificate
    factory: str
    key: SignerSource = field(repr=False)

    def signing_key(self) -> SigningKey:
        """The key, for the library's builders."""
        return SigningKey(self.key, checks.p256_key("the root", self.certificate))


def read_root(path: Path, now: datetime) -> x509.Certificate:
    """The root's certificate: a P-256 CA, signed by itself, valid now, that allows a CA below it.

    Raises:
        AuthorityError: it is not there or is something else.
    """
    root = checks.read_certificate(path)
    check_root(path.name, root, now)
    return root


def check_root(name: str, root: x509.Certificate, now: datetime) -> None:
    """It is a P-256 CA, signed by itself, valid now, that allows a CA below it.

    Raises:
        AuthorityError: it is something else.
    """
    checks.p256_key(name, root)
    checks.check_ca(name, root)
    checks.check_issued_by(name, root, name, root)
    checks.check_valid(name, root, now)
    checks.check_room_below(name, root)


def root_factory(file: str, root: x509.Certificate) -> str:
    """The factory: the root's one organizational unit.

    Raises:
        AuthorityError: there is not exactly one.
    """
    units = checks.organizational_units(root)
    if fault := unit_fault(units):
        raise AuthorityError(f"{file} {fault}")
    return units[0]


def load_root(pki: Path, *, now: datetime, passphrase: Passphrase | None = None, token: Token | None = None) -> Root:
    """The root of the directory `pki` with its key, fit to sign.

    Args:
        pki: the PKI directory.
        now: UTC.
        passphrase: asked with the key's file name, if the key is encrypted.
        token: where the key is looked for, by the label `root-ca`, if the directory has no file of it.

    Raises:
        AuthorityError: it is not there or not fit; the text says which rule it breaks.
        RunFailedError: the token fails.
    """
    directory = PkiDirectory(pki)
    if not directory.root_certificate.exists():
        raise AuthorityError(
            f"the PKI directory {pki} lacks {directory.root_certificate.name}",
            hint="`batch-issuer ca create DIR --factory NAME` makes one",
        )
    certificate = read_root(directory.root_certificate, now)
    key = find_key(directory.root_key, ROOT_LABEL, passphrase=passphrase, token=token)
    if key is None:
        raise AuthorityError(
            f"the PKI directory {pki} lacks {directory.root_key.name}, and this needs the root's signature",
            hint="bring the key here from where it is kept offline, and take it away afterwards; of a key in a token, "
            "--hsm-module and --hsm-token-label say where it is",
        )
    factory = root_factory(directory.root_certificate.name, certificate)
    public_key = checks.p256_key(directory.root_certificate.name, certificate)
    check_pair(key.name, key.source, directory.root_certificate.name, public_key)
    return Root(certificate, factory, key.source)
