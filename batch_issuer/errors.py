"""What can go wrong, each with its exit code, its datum and a hint.

An error's text says which rule was broken, what was expected and what was found; the hint says what to do next.
No text ever carries a key, a PIN or a passphrase.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_issuer.devices import Rejection

__all__ = [
    "ApiError",
    "AuthorityError",
    "BatchIssuerError",
    "BundleError",
    "IdentityError",
    "Interrupted",
    "LedgerError",
    "ManifestError",
    "OutputError",
    "RefusedError",
    "RequestError",
    "RowsRejectedError",
    "RunFailedError",
]


class BatchIssuerError(Exception):
    """The root of every error that this package raises on purpose.

    Attributes:
        exit_code: what the command line ends with (0 done, 1 failed, 2 refused, 3 rows rejected, 4 verification, 130).
        hint: what the user can do about it, or None.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class RefusedError(BatchIssuerError):
    """What was asked cannot be done as it was asked; nothing was made."""

    exit_code = 2


class ManifestError(RefusedError):
    """The manifest as a file is not usable: its encoding, its structure or its columns."""


class AuthorityError(RefusedError):
    """The PKI directory, a CA certificate or a CA key is not fit for what was asked of it."""


class RequestError(RefusedError):
    """A certificate signing request is not fit to be signed.

    Attributes:
        code: which rule it breaks, such as `csr-signature`.
    """

    def __init__(self, code: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class IdentityError(RefusedError):
    """A sealed part is sealed to none of the identities that were given."""


class OutputError(RefusedError):
    """The output folder cannot take, or does not hold, this run."""


class LedgerError(RefusedError):
    """The ledger is none, is damaged, or says that what was asked was done or is being done by another run."""


class RowsRejectedError(BatchIssuerError):
    """Rows of the manifest break its rules, and the run was not asked to go on without them.

    Attributes:
        rejections: every finding, in the order of the rows.
    """

    exit_code = 3

    def __init__(self, message: str, rejections: Sequence[Rejection], *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.rejections = tuple(rejections)


class RunFailedError(BatchIssuerError):
    """The run began and could not end; what it committed is safe and `--resume` goes on from there."""


class ApiError(BatchIssuerError):
    """The factory's API cannot be reached, refuses what was asked, or answers what it should not.

    Attributes:
        status: the HTTP status of its answer, None if there was none.
    """

    def __init__(self, message: str, *, status: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class BundleError(BatchIssuerError):
    """A stored part or bundle cannot be read as what it should be."""


class Interrupted(BatchIssuerError):  # noqa: N818 - not an error of anyone's: the user asked for it
    """SIGINT or SIGTERM ended the run after its current parts; `--resume` goes on from there."""

    exit_code = 130
