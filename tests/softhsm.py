"""Real PKCS#11 tokens for tests, by SoftHSM: made in a temporary folder, changed and looked into from outside.

Whatever loads the module does it in a process of its own: the tests' process stays clean, so it can be forked.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PLACES = ("/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/local/lib")
MODULE = next(
    (path for place in PLACES if (path := Path(place, "softhsm/libsofthsm2.so")).is_file()),
    Path("/usr/lib/softhsm/libsofthsm2.so"),
)
PIN = "pin-6d1f0c7be25a"
LABEL = "acme token"

_INSIDE = """
import json, pkcs11, sys
from pkcs11 import Attribute as A, KeyType, Mechanism, ObjectClass
from pkcs11.util.ec import encode_named_curve_parameters
module, token_label, pin = sys.argv[1:]
token = next(t for slot in pkcs11.lib(module).get_slots() if (t := slot.get_token()).label == token_label)
session = token.open(rw=True, user_pin=pin)
def keys(kind, label): return list(session.get_objects({A.CLASS: kind, A.LABEL: label}))
def make(curve, label, **template):
    parameters = {A.EC_PARAMS: encode_named_curve_parameters(curve)}
    domain = session.create_domain_parameters(KeyType.EC, parameters, local=True)
    private = {getattr(A, name): value for name, value in template.items()}
    domain.generate_keypair(id=b"1", label=label, store=True, private_template=private)
result = None
"""


def need_softhsm() -> None:
    """Skip without SoftHSM; in continuous integration, which installs it, fail."""
    if shutil.which("softhsm2-util") is None or not MODULE.is_file():
        reason = "SoftHSM is not installed (Debian's package softhsm2)"
        if "BATCH_ISSUER_TEST_TOKENS" in os.environ:
            pytest.fail(reason)
        pytest.skip(reason)


@dataclass(frozen=True, slots=True)
class SoftHsm:
    """SoftHSM with tokens of its own, in `folder`; the environment must name its configuration."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHsm:
        """One with a token, `LABEL`, and its PIN in the file `pin`."""
        made = cls(folder)
        made.tokens.mkdir(parents=True)
        (folder / "conf").write_text(f"directories.tokendir = {made.tokens}\n")
        monkeypatch.setenv("SOFTHSM2_CONF", str(folder / "conf"))
        made.add_token(LABEL)
        made.pin.write_text(PIN + "\n")
        made.pin.chmod(0o400)
        return made

    @property
    def tokens(self) -> Path:
        return self.folder / "tokens"

    @property
    def pin(self) -> Path:
        return self.folder / "pin"

    @property
    def place(self) -> tuple[str, ...]:
        """The options that name the token."""
        return ("--hsm-module", str(MODULE), "--hsm-token-label", LABEL)

    @property
    def options(self) -> tuple[str, ...]:
        """The options that name the token and its PIN."""
        return (*self.place, "--hsm-pin-file", str(self.pin))

    def utility(self, *arguments: str) -> None:
        subprocess.run(["softhsm2-util", *arguments], check=True, capture_output=True)

    def add_token(self, label: str) -> None:
        self.utility("--init-token", "--free", "--label", label, "--so-pin", "so-pin", "--pin", PIN)

    def import_key(self, key: Path, label: str, identifier: str = "31") -> None:
        """Put a key file into the token, as if it had been made there."""
        pkcs8 = self.folder / "import.pem"
        subprocess.run(["openssl", "pkcs8", "-topk8", "-nocrypt", "-in", key, "-out", pkcs8], check=True)
        self.utility(
            "--import", str(pkcs8), "--token", LABEL, "--label", label, "--id", identifier, "--pin", PIN, "--force"
        )
        pkcs8.unlink()

    def inside(self, code: str, token: str = LABEL) -> Any:
        """What `code` leaves in `result`, done by another program in a session with a token."""
        program = f"{_INSIDE}{code}\nprint(json.dumps(result))"
        command = [sys.executable, "-c", program, str(MODULE), token, PIN]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def labels(self) -> list[str]:
        """The labels of the token's private keys."""
        found: list[str] = self.inside(
            "result = sorted(k[A.LABEL] for k in session.get_objects({A.CLASS: ObjectClass.PRIVATE_KEY}))"
        )
        return found

    def remove(self, label: str) -> None:
        self.inside(
            f"[k.destroy() for c in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY) for k in keys(c, {label!r})]"
        )

    def raise_flags(self, flags: int) -> None:
        """Make the token say `flags` of its PIN (CK_TOKEN_INFO), as others do: SoftHSM itself never locks."""
        [path] = self.tokens.glob("*/token.object")
        # CKA_OS_TOKENFLAGS of SoftHSM, and the kind of its value, unsigned long.
        name = struct.pack(">QQ", 0x8000_534B, 2)
        data = bytearray(path.read_bytes())
        assert data.count(name) == 1
        place = data.index(name) + len(name)
        (before,) = struct.unpack_from(">Q", data, place)
        struct.pack_into(">Q", data, place, before | flags)
        path.write_bytes(data)
