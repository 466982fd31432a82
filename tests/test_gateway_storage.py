"""What the stand-in keeps: a disk that is full, a kill at any step of a change, and what is durable when it says so."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from fioctl import Owner, pem
from gateways import PATIENCE, TOKEN, command, serving
from judges import file_system

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CERTS = "/ota/factories/acme/certs/"


@contextmanager
def no_space_on(disk: Path) -> Iterator[None]:
    """Somebody else has all of it."""
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(1 << 16)):
            pass
    try:
        yield
    finally:
        filler.unlink()


def test_a_full_disk_is_said_and_leaves_no_litter(tmp_path: Path) -> None:
    with file_system(tmp_path / "disk", "size=2m") as disk, serving(disk / "data") as server:
        owner = Owner(server)
        owner.create()
        shown, csrs = owner.get(), owner.post(ca_csr=True)
        more = {"ca-crt": pem(owner.local.certificate, owner.signed(csrs["ca-csr"]))}
        keys = sorted((disk / "data/keys").iterdir())
        with no_space_on(disk):
            for answer in (server.ask("POST", CERTS, {"ca-csr": True}), owner.patch(more)):
                assert (answer.status, answer.msg) == (507, "the server's disk is full, and nothing was changed")
            assert sorted((disk / "data/keys").iterdir()) == keys
            assert owner.get() == shown
        errors = [line for line in server.errors.splitlines() if line.startswith("error:")]
        assert errors == [f"error: no space is left for --data at {method} '{CERTS}'" for method in ("POST", "PATCH")]
        owner.post(ca_csr=True)
        owner.change(more)


@pytest.mark.parametrize("size", ["4k", "12k", "24k", "40k"])
def test_a_full_disk_at_the_start_is_no_foreign_database(tmp_path: Path, size: str) -> None:
    """Whatever it was that found no room, it is said in a sentence, and with room the same start succeeds."""
    with file_system(tmp_path / "disk", f"size={size}") as disk:
        done = subprocess.run(
            command(disk / "data", "acme", TOKEN), capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert (done.returncode, done.stdout) == (1, "")
        path = disk / "data/gateway.sqlite"
        assert done.stderr.splitlines()[-1] in (
            f"error: No space left on device: {path}",
            f"error: the server's database {path} cannot be read and written: disk I/O error",
        )
        subprocess.run(["mount", "-o", "remount,size=2m", disk], check=True)
        with serving(disk / "data") as server:
            assert server.ask("GET", CERTS).status == 206
