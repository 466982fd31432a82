"""The password of a PKCS#12 run: asked for in the plan, and the same one each time that the run is gone on with."""

from __future__ import annotations

from hashlib import pbkdf2_hmac
from typing import TYPE_CHECKING

from batch_issuer.bundles.format import PASSWORD_FORMAT, bundle_format
from batch_issuer.bundles.passwords import check_password
from batch_issuer.errors import BundleError, OutputError, RefusedError
from batch_issuer.output.folder import part_name
from batch_issuer.output.passwords import PER_DEVICE, PER_RUN
from batch_issuer.output.rows import read_commit

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_issuer.batch.request import RunRequest
    from batch_issuer.output.folder import OutputFolder
    from batch_issuer.output.record import RunRecord

__all__ = ["check_resumed_password", "run_password", "storing"]

_LOOKED_AT = 3
"""Bundles that are tried: one may be damaged, and the password right all the same."""


def run_password(request: RunRequest, ask: Callable[[], bytes] | None) -> bytes | None:
    """The run's password; None for a run that has none, or makes one for each device.

    Args:
        request: the options.
        ask: gives the password; it may raise RefusedError.

    Raises:
        RefusedError: passwords are for another format, there is none, or it is not fit.
    """
    if request.format != PASSWORD_FORMAT:
        if request.p12_passwords is not None:
            raise RefusedError(f"passwords are for --format p12, and the format is {request.format}")
        return None
    if request.p12_passwords == PER_DEVICE:
        return None
    if request.p12_passwords != PER_RUN or ask is None:
        raise RefusedError("--format p12 needs a password for the bundles, and there is none")
    password = ask()
    check_password(password)
    return password


def storing(format_name: str) -> Callable[[], object] | None:
    """What the password of one bundle costs, to be timed; None where there is none."""
    if format_name != PASSWORD_FORMAT:
        return None
    from batch_issuer.bundles.p12 import DERIVATIONS, KDF_ROUNDS  # noqa: PLC0415 - no other format needs it

    return lambda: pbkdf2_hmac("sha256", b"an estimate", b"of the time", DERIVATIONS * KDF_ROUNDS)


def check_resumed_password(folder: OutputFolder, before: RunRecord | None, password: bytes | None) -> None:
    """Does it open what the run has committed already? Nothing that would help to guess it is kept for this.

    Args:
        folder: the run's.
        before: what it was asked when it began; None if it begins now.
        password: the one that is given now; None of a run that has none.

    Raises:
        OutputError: it opens none of the first bundles.
    """
    if password is None or before is None or before.p12_passwords != PER_RUN:
        return  # whether it is the kind of passwords that it began with is asked with all else that it was asked
    index = next((index for index in range(before.parts) if folder.commit(index).exists()), None)
    if index is None:
        return
    stored = bundle_format(before.format, lambda _: password)
    commit, name = read_commit(folder.commit(index)), part_name(index)
    device_uuids = commit.rows["device_uuid"].slice(0, _LOOKED_AT).to_pylist()
    for location in stored.locations(name, [uuid.encode() for uuid in device_uuids]):
        for place in (folder.bundles, folder.attempt(index, commit.attempt) / name):
            if (place / location).exists():
                try:
                    next(stored.read(place, location))
                except BundleError:
                    continue
                return
    raise OutputError(
        "the password is not the one that the run began with: it opens none of the first bundles",
        hint="resume with the password it began with; a run has one",
    )
