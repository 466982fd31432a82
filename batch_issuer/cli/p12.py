"""The passwords of a run's PKCS#12 bundles, for the commands that open them."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from batch_issuer.cli.options import FILE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batch_issuer.bundles.format import PasswordOf
    from batch_issuer.output.folder import OutputFolder
    from batch_issuer.output.record import RunRecord

__all__ = ["p12_options"]

_LOOKED_AT = 3
"""Bundles that a password is tried on before it is called wrong: one may be damaged."""


def p12_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--p12-password-file` and `--p12-passwords`; the function gets them as one `passwords` beside its `out`.

    That gives a bundle's password by its device's UUID. Files are read and prompts made when it is first asked: what
    opens no bundle needs no password.
    """

    @wraps(function)
    def with_passwords(
        *arguments: Any, out: Path, p12_password_file: Path | None, p12_passwords: Path | None, **options: Any
    ) -> Any:
        return function(*arguments, out=out, passwords=_passwords(out, p12_password_file, p12_passwords), **options)

    one = click.option(
        "--p12-password-file", type=FILE, help="Opens .p12 bundles; also $BATCH_ISSUER_P12_PASSWORD, or a prompt."
    )
    listed = click.option("--p12-passwords", type=FILE, show_default="p12-passwords.csv in OUT", help=_LISTED_HELP)
    return one(listed(with_passwords))


_LISTED_HELP = "The list of the devices' passwords, if the run made them."


def _passwords(out: Path, file: Path | None, listed: Path | None) -> PasswordOf | None:
    from batch_issuer.core_dumps import forbid_core_dumps
    from batch_issuer.output.folder import OutputFolder
    from batch_issuer.output.record import read_record

    folder = OutputFolder(out)
    record = read_record(folder.record)
    wanted = {None: None, "run": "--p12-password-file", "device": "--p12-passwords"}.get(record.p12_passwords)
    for option, value in (("--p12-password-file", file), ("--p12-passwords", listed)):
        if value is not None and option != wanted:
            needs = f"needs {wanted}" if wanted else "needs no password"
            raise click.UsageError(f"{option} is not for the run in {out}, which {needs}")
    if wanted is None:
        return None
    forbid_core_dumps()
    return _Passwords(folder, record, file, listed)


class _Passwords:
    """Gives passwords, once it has seen that they open something."""

    def __init__(self, folder: OutputFolder, record: RunRecord, file: Path | None, listed: Path | None) -> None:
        self._sources = (folder, record, file, listed)
        self._of: PasswordOf | None = None

    def __call__(self, device_uuid: str) -> bytes | None:
        if self._of is None:
            self._of = self._opened()
        return self._of(device_uuid)

    def _opened(self) -> PasswordOf:
        from batch_issuer.cli.secrets import p12_password
        from batch_issuer.output.passwords import read_passwords

        folder, record, file, listed = self._sources
        if record.makes_passwords:
            passwords = read_passwords(folder, record, listed)
            _check(folder, record, passwords.get, "the list of passwords")
            return passwords.get
        password = p12_password(file)()
        _check(folder, record, lambda _: password, "the password")
        return lambda _: password


def _check(folder: OutputFolder, record: RunRecord, passwords: PasswordOf, what: str) -> None:
    """Do they open one of the first bundles? What opens none is refused, before each bundle is called damaged."""
    import os
    from itertools import islice

    from batch_issuer.bundles.format import bundle_format
    from batch_issuer.errors import BundleError, RefusedError

    if not folder.bundles.is_dir():
        return
    with os.scandir(folder.bundles) as entries:
        names = list(islice((entry.name for entry in entries if entry.name.endswith(".p12")), _LOOKED_AT))
    stored, tried = bundle_format(record.format, passwords), 0
    for name in names:
        try:
            next(stored.read(folder.bundles, name))
        except BundleError:
            tried += 1
        else:
            return
    if tried:
        raise RefusedError(
            f"{what} opens none of the {tried} bundles that were tried: it is another run's, or they are damaged",
            hint="`sha256sum --check SHA256SUMS` in the output folder tells whether they are as they were made",
        )
