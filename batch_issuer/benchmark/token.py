"""A temporary SoftHSM token with a factory's keys, and what it gives a bare loop of C_Sign."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from batch_issuer.authority.issuer import load_issuer
from batch_issuer.authority.tokens import Token, TokenKey
from batch_issuer.benchmark.workload import Workload, temporary_folder
from batch_issuer.ceremony.create import create_pki
from batch_issuer.errors import RunFailedError
from batch_issuer.files import PRIVATE_MODE, make_directory, write_new

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["SignLoop", "token_workload", "what_lacks"]

_MODULES = tuple(
    Path(place, "softhsm/libsofthsm2.so") for place in ("/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu")
)
_LABEL, _PIN = "bench", "0000"  # of a token that nobody trusts
_CONFIGURATION, _CONF = "SOFTHSM2_CONF", "softhsm2.conf"
_WARM_UP = 100


def what_lacks() -> str | None:
    """What is not installed and needed for this, in a sentence; None when all is there."""
    if find_spec("pkcs11") is None:
        return "python-pkcs11 is not installed: pip install 'batch-issuer[hsm]'"
    if shutil.which("softhsm2-util") is None or _module() is None:
        return "SoftHSM is not installed (Debian's package softhsm2)"
    return None


def _module() -> Path | None:
    return next(filter(Path.is_file, _MODULES), None)


@contextmanager
def token_workload(parent: Path) -> Iterator[Workload]:
    """A workload in a new folder of `parent` whose CA keys are in a SoftHSM token of its own, gone afterwards.

    Raises:
        RunFailedError: SoftHSM or python-pkcs11 is not installed, or makes no token.
        OSError: the folder cannot be made.
    """
    module = _module()
    if (lacks := what_lacks()) or module is None:
        raise RunFailedError(str(lacks))
    with temporary_folder(parent) as folder, _softhsm(folder):
        token = Token(module, _LABEL, lambda _: _PIN)
        pki, now, host = folder / "pki", datetime.now(UTC), "gateway.bench.example"
        create_pki(pki, factory="bench", gateway_host=host, token=token, token_local_ca=True, now=now)
        pin = folder / "pin"
        write_new(pin, [_PIN.encode()], PRIVATE_MODE)
        options = ("--hsm-module", str(module), "--hsm-token-label", _LABEL, "--hsm-pin-file", str(pin))
        yield Workload(folder, pki, load_issuer(pki, "local-ca", now=now, token=token), options)


@contextmanager
def _softhsm(folder: Path) -> Iterator[None]:
    """SoftHSM with a token of its own in `folder`, for this process and those that it starts."""
    tokens, configuration, before = folder / "tokens", folder / _CONF, os.environ.get(_CONFIGURATION)
    make_directory(tokens)
    write_new(configuration, [f"directories.tokendir = {tokens}\n".encode()], PRIVATE_MODE)
    os.environ[_CONFIGURATION] = str(configuration)
    try:
        _initialise()
        yield
    finally:
        os.environ.pop(_CONFIGURATION)
        if before is not None:
            os.environ[_CONFIGURATION] = before


def _initialise() -> None:
    pins = ("--so-pin", _PIN, "--pin", _PIN)
    command = ["softhsm2-util", "--init-token", "--free", "--label", _LABEL, *pins]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - SoftHSM's own program
    if done.returncode != 0:
        raise RunFailedError(f"softhsm2-util makes no token: {done.stderr.strip()}")


@dataclass(frozen=True, slots=True)
class SignLoop:
    """What the token gives a bare loop: C_SignInit and C_Sign with its key, called directly, and nothing else.

    No key is made, nothing is hashed, and signatures stay as the token gives them.

    Attributes:
        folder: the workload's.
        key: the device CA's.
        copy: whether the session's copy of it signs, which the program has SoftHSM do, too.
    """

    folder: Path
    key: TokenKey
    copy: bool

    def prepare(self, place: int, count: int) -> Callable[[], None]:  # noqa: ARG002 - all places do the same
        """The work for `count` signatures."""
        from batch_issuer.authority.token_calls import sign_with  # noqa: PLC0415 - python-pkcs11 is an extra
        from batch_issuer.authority.token_keys import private_key, session_copy  # noqa: PLC0415 - python-pkcs11 is an extra
        from batch_issuer.authority.token_session import open_session  # noqa: PLC0415 - python-pkcs11 is an extra

        os.environ[_CONFIGURATION] = str(self.folder / _CONF)  # the fork server may be older than the token
        session = open_session(self.key.module, self.key.token, self.key.pin)
        key = private_key(session, self.key.label)
        sign = sign_with(self.key.module, session, (session_copy(session, key) if self.copy else None) or key)
        digest = bytes(range(32))

        def work(signatures: int = count) -> None:
            for _ in range(signatures):
                sign(digest)

        work(_WARM_UP)
        return work
