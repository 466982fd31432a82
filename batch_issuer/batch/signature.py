"""What a run's CA signs with, in the process that asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_issuer.authority.signers import FileKey
from batch_issuer.errors import AuthorityError, RunFailedError

if TYPE_CHECKING:
    from batch_issuer.authority.issuer import Issuer
    from batch_issuer.minting.keys import KeyEngine, Signature

__all__ = ["ca_signature"]


def ca_signature(issuer: Issuer, engine: KeyEngine) -> Signature:
    """The CA's signature: by the engine, if the key is in a file; by the token, if it is in one.

    Raises:
        RunFailedError: the token fails.
    """
    if isinstance(issuer.key, FileKey):
        return engine.signature(issuer.key.der)
    try:
        return issuer.key.open()
    except AuthorityError as error:  # of a token that the plan has signed with a moment ago
        raise RunFailedError(str(error), hint=error.hint) from None
