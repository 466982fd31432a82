"""What the stand-in keeps: a disk that is full, a kill at any step of a change, and what is durable when it says so."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from fioctl import Owner, pem
from gateways import PATIENCE, TOKEN, command, serving
from handshakes import Ca, new_device
from judges import file_system
from pki import DAY, NOW, make_pki

from batch_issuer.gateway.state import Pki
from batch_issuer.gateway.store import Store

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
        server.wait_errors(f"PATCH '{CERTS}'")
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


# What is kept, at every instant


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """One that was made before, and is opened again."""
    (tmp_path / "data").mkdir()
    Store(tmp_path / "data/gateway.sqlite", "acme").close()
    with closing(Store(tmp_path / "data/gateway.sqlite", "acme")) as store:
        yield store


def two_pkis(folder: Path) -> list[Pki]:
    """One, and the one after a rotation of all of it."""
    found = []
    for place in range(2):
        pki = make_pki(folder / f"pki-{place}")
        root, tls, local, online = (
            x509.load_pem_x509_certificate((pki / name).read_bytes())
            for name in ("factory_ca.pem", "tls-crt", "local-ca.pem", "online-crt")
        )
        moment = NOW + place * DAY
        found.append(Pki(root, tls, None, (online, local), frozenset({local.serial_number}), moment, moment))
    return found


def test_a_kill_at_any_statement_leaves_one_pki_whole(tmp_path: Path, store: Store) -> None:
    """What a kill would leave at each of them is what lies in the folder then."""
    old, new = two_pkis(tmp_path)
    store.save_pki(old)
    statements: list[str] = []

    def note(statement: str) -> None:
        shutil.copytree(tmp_path / "data", tmp_path / f"left-{len(statements)}")
        statements.append(statement)

    store._database._connection.set_trace_callback(note)
    store.save_pki(new)
    store._database._connection.set_trace_callback(None)
    assert len(statements) > 8
    found = []
    for place in range(len(statements)):
        with closing(Store(tmp_path / f"left-{place}/gateway.sqlite", "acme")) as left:
            found.append(left.pki())
    committed = statements.index("COMMIT") + 1
    assert found == [old] * committed + [new] * (len(statements) - committed)
    assert len(found) > committed  # the last is one after the commit
    assert store.pki() == new
    assert statements[0] == "PRAGMA synchronous = FULL"


@pytest.mark.parametrize("durable", [True, False])
def test_what_is_to_be_durable_is_synced_before_it_is_said(store: Store, durable: bool) -> None:
    """2 is FULL: SQLite syncs its log with the commit; 1, NORMAL, is for what a power cut may take."""
    database = store._database

    def level() -> int:
        [(level,)] = database.execute("PRAGMA synchronous")
        return int(level)

    with database.transaction(durable=durable):
        assert level() == (2 if durable else 1)
    assert level() == 1


def test_what_cannot_be_saved_is_not_used(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        owner = Owner(server)
        owner.create()
        before, device = owner.get(), new_device(Ca(owner.local.certificate, owner.local.key))
        with closing(sqlite3.connect(tmp_path / "data/gateway.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # nobody else writes now
            revoked = {owner.local.certificate.serial_number: x509.ReasonFlags.privilege_withdrawn}
            assert owner.patch({"ca-revoke-crl": owner.crl(revoked)}).status == 500
            assert owner.get() == before
            other.execute("ROLLBACK")
        assert device.ask(server, owner.root).status == 200


def test_what_cannot_be_used_is_not_saved(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        owner = Owner(server)
        owner.create()
        before, known = owner.get(), set((tmp_path / "data/keys").iterdir())
        tls = owner.signed(owner.post(tls_csr=True)["tls-csr"])
        [key] = set((tmp_path / "data/keys").iterdir()) - known
        key.chmod(0o600)
        key.write_bytes(b"nothing")
        answer = owner.patch({"tls-crt": pem(tls)})
        assert (answer.status, answer.msg[:51]) == (400, "the gateway's certificate, key or device CAs cannot")
        assert owner.get() == before
    with serving(tmp_path / "data") as server:
        owner.server = server
        assert owner.get() == before
