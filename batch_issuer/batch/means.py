"""What a run issues with: the CA, the signer of its output, the key engine, the password; checked before its rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batch_issuer.authority.batch_signer import load_batch_signer
from batch_issuer.authority.issuer import load_issuer
from batch_issuer.batch.passwords import run_password
from batch_issuer.minting.keys import choose_engine

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from batch_issuer.authority.batch_signer import BatchSigner
    from batch_issuer.authority.issuer import Issuer
    from batch_issuer.authority.signers import Passphrase
    from batch_issuer.authority.tokens import Token
    from batch_issuer.batch.request import RunRequest

__all__ = ["Means", "Secrets", "gather_means"]


@dataclass(frozen=True, slots=True)
class Secrets:
    """What gives a run its secrets, when it needs them. None of it is shown by repr.

    Attributes:
        passphrase: gives the passphrase of an encrypted CA key, by the key's file name.
        token: where the CA's key is, if it is no file.
        p12_password: gives the password of a run of format p12 that has one for all bundles.
    """

    passphrase: Passphrase | None = field(default=None, repr=False)
    token: Token | None = field(default=None, repr=False)
    p12_password: Callable[[], bytes] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Means:
    """What a run issues with.

    Attributes:
        issuer: the device CA.
        signer: who signs the output; None for nobody.
        key_engine: what makes keys; may be `auto` with a cluster elsewhere, whose workers choose for themselves.
        p12_password: of all bundles of a run of format p12 that has one. Not shown by repr.
    """

    issuer: Issuer
    signer: BatchSigner | None
    key_engine: str
    p12_password: bytes | None = field(repr=False)

    @property
    def warnings(self) -> list[str]:
        """Sentences for the user."""
        return [*self.issuer.warnings, *(() if self.signer is None else self.signer.warnings)]


def gather_means(request: RunRequest, secrets: Secrets, *, now: datetime) -> Means:
    """Load and check all of them.

    Args:
        request: the options.
        secrets: what gives them.
        now: UTC.

    Raises:
        AuthorityError: the CA or the signer is not fit.
        RefusedError: the key engine is not there, or the password is not fit.
    """
    # Workers on other machines may have other things installed: each chooses for itself.
    elsewhere = request.cluster is not None and request.cluster.scheduler is not None
    key_engine = request.key_engine if elsewhere else choose_engine(request.key_engine)
    passphrase = secrets.passphrase
    issuer = load_issuer(request.pki, request.ca_name, now=now, passphrase=passphrase, token=secrets.token)
    signer = None
    if request.sign_with is not None:
        signer = load_batch_signer(request.pki, request.sign_with, now=now, passphrase=passphrase)
    return Means(issuer, signer, key_engine, run_password(request, secrets.p12_password))
