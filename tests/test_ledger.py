"""The ledger: no device twice across runs, unless it is asked for; of two runs at once one; nothing lost by a kill."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sqlite3
import stat
import subprocess
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import runs
from csrs import csr_manifest, forms_of, make_csr, spki_of
from judges import (
    Ran,
    csv_bytes,
    csv_rows,
    device_uuids,
    finished_run,
    interrupted_run,
    issue,
    private_values,
    refusal,
    run,
    shows_a_key,
    stored_bundles,
)
from pki import p256

from batch_issuer.batch.claim import Claim
from batch_issuer.batch.folder_home import FolderHome
from batch_issuer.errors import LedgerError
from batch_issuer.ledger import database, lookup
from batch_issuer.ledger.entries import IssuedPart, LedgerRun, ReservedPart
from batch_issuer.ledger.ledger import Ledger, open_ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UUIDS = device_uuids(7)
MORE = device_uuids(12)[7:]
LEDGER = ("--ledger", "factory.ledger")
FINISHED = "resume that run first; if its folder is gone, `batch-issuer ledger release` gives them up"

pytestmark = pytest.mark.usefixtures("work")


def rows(path: str = "factory.ledger") -> list[dict[str, Any]]:
    """What the ledger says is issued, by its view, in SQLite's own hands."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM issued")]


def run_id(out: str = "issued") -> str:
    found: str = json.loads(Path(out, "run.json").read_bytes())["ledger_run"]
    assert re.fullmatch("[0-9a-f]{32}", found)
    return found


def agrees(*outs: str) -> None:
    """The ledger has every device of these runs once for each, as their manifests have it, and no other."""
    expected = sorted(
        (row["device_uuid"], row["serial_number"], row["public_key_sha256"], run_id(out))
        for out in outs
        for row in csv_rows(Path(out, "manifest.csv"))
    )
    found = sorted((r["device_uuid"], r["serial_number"], r["public_key_sha256"], r["run"]) for r in rows())
    assert found == expected


def told(row: int, uuid: str, out: str = "issued") -> str:
    where = f"was issued by run {run_id(out)[:8]} into {Path(out).absolute()}"
    return f"ledger-issued: row {row}, column 'device_uuid': {uuid} {where}"


# Runs, one after another


def test_a_run_is_recorded_whole() -> None:
    manifest = csv_bytes([f"{uuid},{place % 2}" for place, uuid in enumerate(UUIDS)], "device_uuid,production")
    assert issue(manifest, *LEDGER, "--format", "tar").code == 0
    agrees("issued")
    record = json.loads(Path("issued/run.json").read_bytes())
    for row in rows():
        assert row["production"] == UUIDS.index(row["device_uuid"]) % 2
        assert (row["ca_name"], row["factory"], row["out"]) == ("local-ca", "acme", str(Path("issued").absolute()))
        assert (row["not_before"], row["not_after"]) == (record["not_before"], record["not_after"])
    shown = subprocess.run(
        ["openssl", "x509", "-in", "pki/local-ca.pem", "-noout", "-serial", "-ext", "subjectKeyIdentifier"],
        capture_output=True, text=True, check=True,
    ).stdout.replace(":", "").lower()  # fmt: skip
    assert f"serial={rows()[0]['ca_serial']}\n" in shown
    assert rows()[0]["ca_key_identifier"] in shown


def test_what_an_earlier_run_issued_is_refused_row_by_row() -> None:
    assert issue(csv_bytes(UUIDS[:4]), *LEDGER, "--out", "first").code == 0
    ran = issue(csv_bytes([MORE[0], *UUIDS[2:5]]), *LEDGER)
    findings = [told(row, uuid, "first") for row, uuid in ((2, UUIDS[2]), (3, UUIDS[3]))]
    error = "2 of the manifest's 4 rows are rejected; nothing was issued"
    hint = "mend them, or issue the others with --skip-rejects"
    refusal(ran, 3, error, hint=hint, findings=findings)
    agrees("first")


def test_the_others_are_issued_on_request() -> None:
    assert issue(csv_bytes(UUIDS[:4]), *LEDGER, "--out", "first").code == 0
    ran = issue(csv_bytes([MORE[0], *UUIDS[2:5], UUIDS[4].upper()]), *LEDGER, "--skip-rejects")
    assert ran.code == 3
    found = [(row["row"], row["code"], row["value"]) for row in csv_rows(Path("issued/rejects.csv"))]
    assert found == [
        ("2", "ledger-issued", UUIDS[2]),
        ("3", "ledger-issued", UUIDS[3]),
        ("5", "uuid-duplicate", UUIDS[4]),
    ]
    agrees("first", "issued")
    finished_run(Path("issued"), Path("pki"), [MORE[0], UUIDS[4]])


def test_a_row_that_comes_again_and_was_issued_has_one_finding() -> None:
    assert issue(csv_bytes(UUIDS[:1]), *LEDGER, "--out", "first").code == 0
    ran = issue(csv_bytes([UUIDS[0], UUIDS[0], MORE[0]]), *LEDGER, "--skip-rejects")
    assert ran.code == 3
    assert [row["code"] for row in csv_rows(Path("issued/rejects.csv"))] == ["ledger-issued", "uuid-duplicate"]


def test_all_of_a_manifest_again() -> None:
    assert issue(csv_bytes(UUIDS), *LEDGER, "--out", "first").code == 0
    ran = issue(csv_bytes(UUIDS), *LEDGER, "--skip-rejects")
    assert ran.code == 3
    assert ran.err.endswith("error: all 7 rows of the manifest are rejected\n")
    assert not Path("issued").exists()


def test_without_the_ledger_nobody_knows() -> None:
    """The twin: it is the ledger that refuses."""
    assert issue(csv_bytes(UUIDS), *LEDGER, "--out", "first").code == 0
    assert issue(csv_bytes(UUIDS)).code == 0
    agrees("first")


def test_a_reissue_is_said_with_what_the_gateway_will_answer() -> None:
    assert issue(csv_bytes(UUIDS[:4]), *LEDGER, "--out", "first").code == 0
    ran = issue(csv_bytes([MORE[0], *UUIDS[2:5]]), *LEDGER, "--reissue")
    assert ran.code == 0
    told = (
        "2 devices of this run had a certificate before: a gateway that knows such a device by its first key answers "
        "502 to the new one, until its entry is deleted there"
    )
    assert f"warning: {told}\n" in ran.err
    assert "  reissued  2 devices; gateways that know a device by another key answer 502\n" in ran.out
    summary = json.loads(Path("issued/summary.json").read_bytes())
    assert (summary["reissued"], told in summary["warnings"]) == (2, True)
    agrees("first", "issued")
    entries = json.loads(run("ledger", "show", UUIDS[2], *LEDGER, "--json").out)
    assert [entry["run"] for entry in entries] == [run_id("first"), run_id()]
    assert len({entry["serial_number"] for entry in entries}) == 2


def test_a_key_that_an_earlier_run_certified_is_refused() -> None:
    """For a device of another name as for the same one; a row that is refused for its device has that one finding."""
    csr = {UUIDS[0]: make_csr(UUIDS[0], key=(key := p256()))}
    assert issue(csr_manifest(UUIDS[:2], csr), *LEDGER, "--out", "first").code == 0
    again = {UUIDS[0]: csr[UUIDS[0]], MORE[0]: make_csr(MORE[0], key=key), MORE[1]: make_csr(MORE[1])}
    first = issue(csr_manifest([MORE[0], MORE[1]], again), *LEDGER, "--skip-rejects")
    digest = sha256(spki_of(csr[UUIDS[0]])).hexdigest()[:32]
    where = f"was certified by run {run_id('first')[:8]} into {Path('first').absolute()}"
    [finding] = csv_rows(Path("issued/rejects.csv"))
    message = f"row 1, column 'csr': its public key (SHA-256 {digest}…) {where}"
    assert (first.code, finding["code"], finding["message"]) == (3, "ledger-key", message)
    agrees("first", "issued")
    same = issue(csr_manifest([UUIDS[0]], again), *LEDGER, "--out", "other")
    assert same.code == 3
    assert told(1, UUIDS[0], "first") in same.err
    assert "ledger-key" not in same.err


def test_a_reissue_for_a_key_that_the_gateway_knows_is_no_warning() -> None:
    csrs = forms_of(UUIDS[:2])
    assert issue(csr_manifest(UUIDS[:3], csrs), *LEDGER, "--out", "first").code == 0
    ran = issue(csr_manifest(UUIDS[:3], csrs), *LEDGER, "--reissue")
    assert ran.code == 0
    assert "warning: 1 device of this run had a certificate before: " in ran.err
    assert json.loads(Path("issued/summary.json").read_bytes())["reissued"] == 3
    agrees("first", "issued")
    keys = [
        {row["device_uuid"]: row["public_key_sha256"] for row in rows() if row["run"] == run_id(out)}
        for out in ("first", "issued")
    ]
    assert [keys[0][uuid] == keys[1][uuid] for uuid in UUIDS[:3]] == [True, True, False]


def test_a_reissue_of_what_was_never_issued_is_a_run() -> None:
    ran = issue(csv_bytes(UUIDS), *LEDGER, "--reissue")
    assert ran.code == 0
    assert "reissued" not in ran.out
    assert json.loads(Path("issued/summary.json").read_bytes())["reissued"] == 0


def test_reissue_is_for_a_ledger() -> None:
    ran = issue(csv_bytes(UUIDS), "--reissue")
    assert ran.code == 2
    assert "--reissue is for --ledger" in ran.err


def test_a_dry_run_asks_and_writes_nothing() -> None:
    assert issue(csv_bytes(UUIDS), *LEDGER, "--dry-run").code == 0
    assert not Path("factory.ledger").exists()
    assert issue(csv_bytes(UUIDS[:4]), *LEDGER, "--out", "first").code == 0
    before = Path("factory.ledger").read_bytes()
    ran = issue(csv_bytes(UUIDS[3:]), *LEDGER, "--dry-run")
    assert (ran.code, told(1, UUIDS[3], "first") in ran.err) == (3, True)
    assert issue(csv_bytes(UUIDS[4:]), *LEDGER, "--dry-run").code == 0
    assert Path("factory.ledger").read_bytes() == before


def test_a_ledger_has_no_secret_and_is_its_owners_alone() -> None:
    before = os.umask(0)
    try:
        assert issue(csv_bytes(UUIDS), *LEDGER).code == 0
    finally:
        os.umask(before)
    with closing(sqlite3.connect("factory.ledger")) as connection:  # makes its companions
        connection.execute("SELECT * FROM runs").fetchall()
        found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in Path().glob("factory.ledger*")}
    assert set(found.values()) == {0o600}
    values = private_values([files["pkey.pem"] for files in stored_bundles(Path("issued")).values()])
    assert not shows_a_key(Path("factory.ledger").read_bytes(), values)
    assert list(Path().glob(".factory*")) == []


# Runs that end before their end


def test_an_unfinished_run_holds_what_it_has_not_issued(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, csv_bytes(UUIDS), *LEDGER)
    assert {row["device_uuid"] for row in rows()} == set(UUIDS[:3])
    error = f"devices of the manifest are held by a run that is not finished: {run_id()} in {Path('issued').absolute()}"
    for options in ((), ("--reissue",), ("--skip-rejects",), ("--dry-run",)):
        ran = issue(csv_bytes([MORE[0], UUIDS[6]]), *LEDGER, "--out", "other", *options)
        assert (ran.code, ran.err) == (2, f"error: {error}\nhint: {FINISHED}\n")
        assert not Path("other").exists()
    assert issue(csv_bytes(UUIDS), *LEDGER, "--resume").code == 0
    agrees("issued")
    finished_run(Path("issued"), Path("pki"), UUIDS)
    assert issue(csv_bytes([MORE[0], UUIDS[6]]), *LEDGER, "--out", "other").code == 3


def test_an_unfinished_run_holds_the_keys_that_its_devices_bring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of parts that are issued are known as that, and those of rejected rows are nobody's."""
    keys = [p256() for _ in range(3)]
    csrs = {UUIDS[0]: make_csr(UUIDS[0], key=keys[0]), UUIDS[6]: make_csr(UUIDS[6], key=keys[1])}
    csrs[UUIDS[5]] = make_csr(MORE[0], key=keys[2])  # another's name
    manifest = csr_manifest(UUIDS, csrs)
    interrupted_run(monkeypatch, manifest, *LEDGER, "--skip-rejects")
    error = f"keys of the manifest are held by a run that is not finished: {run_id()} in {Path('issued').absolute()}"
    same = csr_manifest(MORE[:2], {MORE[1]: make_csr(MORE[1], key=keys[1])})
    for options in ((), ("--reissue",), ("--skip-rejects",), ("--dry-run",)):
        ran = issue(same, *LEDGER, "--out", "other", *options)
        assert (ran.code, ran.err.splitlines()[-2:]) == (2, [f"error: {error}", f"hint: {FINISHED}"])
        assert not Path("other").exists()
    first = issue(csr_manifest(MORE[:1], {MORE[0]: make_csr(MORE[0], key=keys[0])}), *LEDGER, "--out", "other")
    assert (first.code, first.err.count("ledger-key: ")) == (3, 1)
    third = csr_manifest(MORE[2:3], {MORE[2]: make_csr(MORE[2], key=keys[2])})
    assert issue(third, *LEDGER, "--out", "third").code == 0
    assert issue(manifest, *LEDGER, "--skip-rejects", "--resume").code == 3
    ran = issue(same, *LEDGER, "--out", "other")
    assert (ran.code, ran.err.count("ledger-key: ")) == (3, 1)
    with closing(sqlite3.connect("factory.ledger")) as connection:
        assert connection.execute("SELECT count(*) FROM held_keys").fetchone() == (0,)


def test_keys_that_are_given_up_may_be_brought_by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    key = p256()
    manifest = csr_manifest(UUIDS, {UUIDS[6]: make_csr(UUIDS[6], key=key)})
    interrupted_run(monkeypatch, manifest, *LEDGER)
    Path("issued").rename("moved")
    assert run("ledger", "release", run_id("moved"), *LEDGER).code == 0
    other = csr_manifest(MORE[:1], {MORE[0]: make_csr(MORE[0], key=key)})
    assert issue(other, *LEDGER).code == 0
    ran = issue(manifest, *LEDGER, "--resume", "--out", "moved")
    taken = f"error: keys of the manifest were taken meanwhile by another run: {run_id()} in "
    assert (ran.code, ran.err.splitlines()[-2].startswith(taken)) == (2, True)
    assert {row["device_uuid"] for row in rows()} == {*UUIDS[:3], MORE[0]}


def test_a_ledger_is_whole_when_it_has_its_name(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is killed before it opens what it has made leaves a ledger that lacks nothing."""
    monkeypatch.setattr(database, "_check", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        open_ledger(work / "factory.ledger", create=True)
    with closing(sqlite3.connect("factory.ledger")) as connection:
        assert connection.execute("SELECT count(*) FROM held_keys").fetchone() == (0,)


def test_a_ledger_of_before_is_used_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """One without the table of held keys, whose unfinished run holds them from its resume on."""
    key = p256()
    manifest = csr_manifest(UUIDS, {UUIDS[6]: make_csr(UUIDS[6], key=key)})
    interrupted_run(monkeypatch, manifest, *LEDGER)
    with closing(sqlite3.connect("factory.ledger")) as connection:
        connection.execute("DROP TABLE held_keys")
    assert run("ledger", "show", UUIDS[0], *LEDGER).code == 0
    interrupted_run(monkeypatch, manifest, *LEDGER, "--resume", parts=2)
    other = csr_manifest(MORE[:1], {MORE[0]: make_csr(MORE[0], key=key)})
    assert "keys of the manifest are held" in issue(other, *LEDGER, "--out", "other").err
    assert issue(manifest, *LEDGER, "--resume").code == 0
    agrees("issued")


def test_others_go_on_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, csv_bytes(UUIDS), *LEDGER)
    assert issue(csv_bytes(MORE), *LEDGER, "--out", "other").code == 0
    again = issue(csv_bytes(UUIDS[:2]), *LEDGER, "--out", "again", "--reissue")
    assert again.code == 0
    assert issue(csv_bytes(UUIDS), *LEDGER, "--resume").code == 0
    agrees("issued", "other", "again")


def test_a_resumed_run_rejects_what_it_began_by_rejecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing of what others issued since: what they could, this run had issued before."""
    assert issue(csv_bytes(UUIDS[:2]), *LEDGER, "--out", "first").code == 0
    manifest = csv_bytes([*UUIDS, "x"])
    interrupted_run(monkeypatch, manifest, *LEDGER, "--skip-rejects")
    assert issue(csv_bytes(UUIDS[2:4]), *LEDGER, "--out", "again", "--reissue").code == 0
    assert issue(manifest, *LEDGER, "--skip-rejects", "--resume").code == 3
    assert [row["row"] for row in csv_rows(Path("issued/rejects.csv"))] == ["1", "2", "8"]
    agrees("first", "again", "issued")


def test_a_resumed_reissue_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert issue(csv_bytes(UUIDS[:5]), *LEDGER, "--out", "first").code == 0
    interrupted_run(monkeypatch, csv_bytes(UUIDS), *LEDGER, "--reissue")
    ran = issue(csv_bytes(UUIDS), *LEDGER, "--resume")
    assert ran.code == 3  # without --reissue its rows are refused before anything is compared
    assert issue(csv_bytes(UUIDS), *LEDGER, "--reissue", "--resume").code == 0
    assert json.loads(Path("issued/summary.json").read_bytes())["reissued"] == 5
    agrees("first", "issued")


def test_a_resume_is_with_the_ledger_that_the_run_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, csv_bytes(UUIDS), *LEDGER)
    began = "resume with the options it began with; run.json has them all"
    ran = issue(csv_bytes(UUIDS), "--resume")
    assert (ran.code, ran.err) == (
        2, f"error: the run began otherwise: ledger_run was {run_id()}, now none\nhint: {began}\n"
    )  # fmt: skip
    ran = issue(csv_bytes(UUIDS), "--resume", "--ledger", "other.ledger")
    error = "the ledger other.ledger does not know the run that issued holds"
    assert (ran.code, ran.err) == (2, f"error: {error}\nhint: resume with the ledger that it began with\n")
    assert issue(csv_bytes(UUIDS), "--resume", *LEDGER).code == 0
    agrees("issued")


def test_a_run_without_a_ledger_gets_none_later(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, csv_bytes(UUIDS))
    ran = issue(csv_bytes(UUIDS), "--resume", *LEDGER)
    assert ran.code == 2
    assert ran.err.startswith("error: the run began otherwise: ledger_run was none, now ")
    assert rows() == []
    assert issue(csv_bytes(UUIDS), "--resume").code == 0


def test_a_part_that_the_ledger_could_not_take_is_recorded_by_the_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    record = Ledger.record

    def full(self: Ledger, number: int, issued: IssuedPart, when: str) -> None:
        if issued.part == 1:
            raise LedgerError("the ledger factory.ledger cannot be used: database or disk is full")
        record(self, number, issued, when)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "record", full)
        ran = issue(csv_bytes(UUIDS), *LEDGER, "--workers", "1")
    assert ran.code == 1
    assert ran.err.endswith(
        "error: the ledger factory.ledger cannot be used: database or disk is full\n"
        "hint: the same command with --resume goes on from here\n"
    )
    assert issue(csv_bytes(UUIDS), *LEDGER, "--resume").code == 0
    agrees("issued")


def test_a_plan_that_cannot_be_written_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, *_: object, **__: object) -> None:
        raise OSError(5, "Input/output error", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(FolderHome, "write_record", fail)  # of run.json, which is written when the devices are held
        assert issue(csv_bytes(UUIDS), *LEDGER).code == 1
    assert not Path("issued").exists()
    assert issue(csv_bytes(UUIDS), *LEDGER, "--out", "other").code == 0
    agrees("other")


def test_a_plan_that_was_killed_is_given_up_by_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the hold and run.json: the next plan on the folder may be of another manifest."""

    class Killed(BaseException):
        """Nothing cleans up after it."""

    def kill(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(FolderHome, "write_record", kill)
        patch.setattr(Ledger, "release", lambda *_: 0)
        patch.setattr(Claim, "abandon", lambda _: None)
        with pytest.raises(Killed):
            issue(csv_bytes(UUIDS), *LEDGER)
    assert Path("issued/.run/ledger-run").exists()
    assert not Path("issued/run.json").exists()
    assert issue(csv_bytes(UUIDS), *LEDGER, "--out", "other").code == 2
    assert issue(csv_bytes(UUIDS[3:]), *LEDGER).code == 0
    agrees("issued")
    assert issue(csv_bytes(UUIDS[:3]), *LEDGER, "--out", "other").code == 0


# Two at once


def test_two_runs_at_once_issue_no_device_twice(factory_pki: Path, tmp_path: Path) -> None:
    """Real processes, one manifest, two folders: whoever comes second is refused, however close they are."""
    manifest = tmp_path / "devices.parquet"
    uuids = runs.write_manifest(manifest, 2000)
    options = ("--format", "tar", "--part-size", "100", "--manifest-format", "csv", "--ledger", str(tmp_path / "led"))
    outs = [tmp_path / name for name in "ab"]
    started = [runs.start(runs.issue_arguments(manifest, factory_pki, out, *options)) for out in outs]
    told = [process.communicate(timeout=120)[1] for process in started]
    ended = [process.returncode for process in started]
    assert min(ended) == 0
    assert max(ended) in {2, 3}, told
    assert len(rows(str(tmp_path / "led"))) == 2000
    assert {row["device_uuid"] for row in rows(str(tmp_path / "led"))} == set(uuids)
    assert [out.exists() for out in outs] == [code == 0 for code in ended]


def test_two_runs_at_once_of_other_devices_both_end(factory_pki: Path, tmp_path: Path) -> None:
    started = []
    for seed in (1, 2, 3):
        manifest = tmp_path / f"{seed}.parquet"
        runs.write_manifest(manifest, 1000, seed=seed)
        options = ("--format", "tar", "--part-size", "50", "--ledger", str(tmp_path / "led"))
        started.append(runs.start(runs.issue_arguments(manifest, factory_pki, tmp_path / f"out-{seed}", *options)))
    for process in started:
        _, told = process.communicate(timeout=120)
        assert process.returncode == 0, told
    assert len({row["device_uuid"] for row in rows(str(tmp_path / "led"))}) == 3000


# The ledger itself


def made_run(number: int) -> LedgerRun:
    return LedgerRun(
        id=f"{number:032x}",
        out=f"/lots/{number}",
        manifest="devices.csv",
        manifest_sha256="00" * 32,
        factory="acme",
        ca_name="local-ca",
        ca_serial=b"\x01\x02",
        ca_key_identifier=None,
        not_before="2026-11-23T16:00:00Z",
        not_after="2046-11-23T16:00:00Z",
        began="2026-11-23T16:00:00Z",
    )


def octets(*uuids: str) -> bytes:
    return bytes.fromhex("".join(uuids).replace("-", ""))


def part(index: int, *uuids: str) -> ReservedPart:
    return ReservedPart(index, octets(*uuids), bytes(len(uuids)))


def issued_part(index: int, *uuids: str) -> IssuedPart:
    keys = b"".join(uuid.encode()[:32] for uuid in uuids)
    return IssuedPart(index, octets(*uuids), bytes(20 * len(uuids)), keys)


@pytest.fixture
def ledger(work: Path) -> Iterator[Ledger]:
    opened = open_ledger(work / "factory.ledger", create=True)
    assert opened is not None
    yield opened
    opened.close()


@pytest.fixture
def other(ledger: Ledger, work: Path) -> Iterator[Ledger]:
    """The same ledger, opened by somebody else."""
    assert ledger
    opened = open_ledger(work / "factory.ledger")
    assert opened is not None
    yield opened
    opened.close()


@pytest.mark.parametrize("at_once", [1, 16, 40, 1 << 20])
def test_devices_are_found_wherever_they_are(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(lookup, "_AT_ONCE", at_once)
    one = ledger.reserve(made_run(1), [part(0, *UUIDS[:3]), part(1, *UUIDS[3:5])], seen=0)
    for index, uuids in ((0, UUIDS[:3]), (1, UUIDS[3:5])):
        ledger.record(one, issued_part(index, *uuids), "now")
    two = ledger.reserve(made_run(2), [part(0, UUIDS[4], *MORE[:2])], seen=one)
    found = ledger.devices(octets(*UUIDS[2:], *MORE))
    known = dict(zip(found.values.to_pylist(), found.runs.to_pylist(), strict=True))
    wanted = {UUIDS[2]: one, UUIDS[3]: one, UUIDS[4]: two, MORE[0]: two, MORE[1]: two}
    assert known == {octets(uuid): number for uuid, number in wanted.items()}
    assert (found.held, ledger.look()) == (two, two)
    found = ledger.devices(octets(*UUIDS[2:], *MORE), before=two)
    assert sorted(found.values.to_pylist()) == sorted(octets(uuid) for uuid in UUIDS[2:5])
    assert found.held is None
    assert len(ledger.devices(b"").values) == len(ledger.devices(octets(UUIDS[6])).values) == 0


def test_public_keys_are_found_once_they_are_issued(ledger: Ledger) -> None:
    number = ledger.reserve(made_run(1), [part(0, *UUIDS[:3]), part(1, *UUIDS[3:])], seen=0)
    key = UUIDS[1].encode()[:32]
    assert len(ledger.keys(key[:16]).values) == 0
    ledger.record(number, issued_part(0, *UUIDS[:3]), "now")
    assert ledger.keys(key[:16] + bytes(16)).values.to_pylist() == [key[:16]]
    assert ledger.keys(key[:16]).runs.to_pylist() == [number]
    assert len(ledger.keys(key[16:] + UUIDS[5].encode()[:16]).values) == 0


def listed(ran: Ran) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(ran.out)))


def test_certificates_are_listed_for_a_revocation_list() -> None:
    """Every certificate of the devices that were asked for, of any run, and no other."""
    assert issue(csv_bytes(UUIDS[:4]), *LEDGER, "--out", "first").code == 0
    assert issue(csv_bytes(UUIDS[2:]), *LEDGER, "--reissue").code == 0
    Path("stolen.csv").write_bytes(csv_bytes([UUIDS[2].upper(), UUIDS[6], UUIDS[6]]))
    ran = run("ledger", "certificates", *LEDGER, "--devices", "stolen.csv")
    issued = {
        out: {row["device_uuid"]: row for row in csv_rows(Path(out, "manifest.csv"))} for out in ("first", "issued")
    }
    expected = [issued["first"][UUIDS[2]], issued["issued"][UUIDS[2]], issued["issued"][UUIDS[6]]]
    names = ("device_uuid", "serial_number", "public_key_sha256")
    assert ran.code == 0
    assert [tuple(row[name] for name in names) for row in listed(ran)] == [
        tuple(row[n] for n in names) for row in expected
    ]
    assert {(row["ca_name"], row["production"]) for row in listed(ran)} == {("local-ca", "false")}
    everything = run("ledger", "certificates", *LEDGER)
    assert sorted(row["serial_number"] for row in listed(everything)) == sorted(row["serial_number"] for row in rows())


def test_what_is_held_is_no_certificate_and_what_is_unknown_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, csv_bytes(UUIDS), *LEDGER)
    Path("stolen.csv").write_bytes(csv_bytes([UUIDS[0], UUIDS[6], MORE[0]]))
    ran = run("ledger", "certificates", *LEDGER, "--devices", "stolen.csv")
    assert (ran.code, [row["device_uuid"] for row in listed(ran)]) == (3, [UUIDS[0]])
    unknown = [
        f"ledger-unknown: row {row}, column 'device_uuid': {uuid} was issued by no run"
        for row, uuid in ((2, UUIDS[6]), (3, MORE[0]))
    ]
    assert ran.err == "\n".join([*unknown, "error: 2 devices were issued by no run of factory.ledger\n"])
    for content, code in ((b"device_uuid\nx\n", 3), (b"", 2), (b"name\nx\n", 2)):
        Path("stolen.csv").write_bytes(content)
        assert run("ledger", "certificates", *LEDGER, "--devices", "stolen.csv").code == code
    assert run("ledger", "certificates", *LEDGER, "--devices", "none.csv").code == 2


def test_octets_of_two_neighbours_are_no_device(ledger: Ledger) -> None:
    number = ledger.reserve(made_run(1), [part(0, *UUIDS[:3])], seen=0)
    ledger.record(number, issued_part(0, *UUIDS[:3]), "now")
    between = octets(*UUIDS[:2])[8:24].hex()
    uuid = f"{between[:8]}-{between[8:12]}-{between[12:16]}-{between[16:20]}-{between[20:]}"
    assert list(ledger.entries(octets(uuid))) == []
    assert len(ledger.devices(octets(uuid)).values) == 0
    assert [entry.device_uuid for entry in ledger.entries(octets(UUIDS[1]))] == [UUIDS[1]]


def test_whoever_looks_first_and_holds_second_is_refused(ledger: Ledger, other: Ledger) -> None:
    seen = ledger.look()
    other.reserve(made_run(2), [part(0, UUIDS[3])], seen=other.look())
    with pytest.raises(
        LedgerError, match=r"^devices of the manifest were taken meanwhile by another run: 0{31}2 in /l"
    ):
        ledger.reserve(made_run(1), [part(0, *UUIDS)], seen=seen)
    assert ledger.number(made_run(1).id) is None
    ledger.devices(octets(*MORE))
    other.reserve(made_run(3), [part(0, UUIDS[0])], seen=2)
    assert ledger.reserve(made_run(1), [part(0, *MORE)], seen=seen)


def test_of_two_that_bring_one_key_the_second_is_refused(ledger: Ledger, other: Ledger) -> None:
    one, two = bytes(16), bytes(15) + b"\1"
    seen = ledger.look()
    other.reserve(made_run(2), [part(0, UUIDS[3])], seen=other.look(), keys=[two])
    with pytest.raises(LedgerError, match=r"^keys of the manifest were taken meanwhile by another run: 0{31}2 in /l"):
        ledger.reserve(made_run(1), [part(0, UUIDS[0])], seen=seen, keys=[one, two])
    assert ledger.number(made_run(1).id) is None
    assert ledger.keys(one).held is None
    number = ledger.reserve(made_run(1), [part(0, UUIDS[0])], seen=seen, keys=[one])
    assert (other.keys(one).held, other.keys(two).held) == (number, number - 1)
    ledger.settle(number)
    assert other.keys(one).held is None


def test_what_was_issued_meanwhile_is_taken_too(ledger: Ledger, other: Ledger) -> None:
    """A device may be issued again only by who has said so with that in view."""
    seen = ledger.look()
    number = other.reserve(made_run(2), [part(0, UUIDS[3])], seen=0)
    other.record(number, issued_part(0, UUIDS[3]), "now")
    with pytest.raises(LedgerError, match="taken meanwhile"):
        ledger.reserve(made_run(1), [part(0, *UUIDS)], seen=seen)
    seen = ledger.look()
    assert ledger.reserve(made_run(1), [part(0, *UUIDS)], seen=seen)


def test_what_was_released_and_taken_back_is_taken(ledger: Ledger, other: Ledger) -> None:
    """By an earlier run than the look has seen."""
    first = ledger.reserve(made_run(1), [part(0, *UUIDS[:3]), part(1, *UUIDS[3:])], seen=0)
    assert other.release(made_run(1).id) == 7
    seen = other.look()
    assert ledger.reserve(made_run(1), [part(0, *UUIDS[:3]), part(1, *UUIDS[3:])], seen=0) == first
    with pytest.raises(LedgerError, match="taken meanwhile"):
        other.reserve(made_run(2), [part(0, *UUIDS[5:])], seen=seen)


def test_what_was_released_and_taken_by_another_is_not_had_back(ledger: Ledger, other: Ledger) -> None:
    first = ledger.reserve(made_run(1), [part(0, *UUIDS[:3]), part(1, *UUIDS[3:])], seen=0)
    ledger.record(first, issued_part(0, *UUIDS[:3]), "now")
    assert ledger.release(made_run(1).id) == 4
    second = other.reserve(made_run(2), [part(0, *UUIDS[5:])], seen=other.look())
    for _ in range(2):
        with pytest.raises(LedgerError, match=r"taken meanwhile by another run: 0{31}2 in /lots/2"):
            ledger.reserve(made_run(1), [part(0, *UUIDS[:3]), part(1, *UUIDS[3:])], seen=0)
        other.record(second, issued_part(0, *UUIDS[5:]), "now")


def test_recording_is_idempotent_and_of_the_devices_that_are_held(ledger: Ledger) -> None:
    number = ledger.reserve(made_run(1), [part(0, *UUIDS[:3])], seen=0)
    for when in ("then", "later"):
        ledger.record(number, issued_part(0, *UUIDS[:3]), when)
    assert {entry.issued for entry in ledger.entries(octets(UUIDS[0]))} == {"then"}
    for wrong in (issued_part(1, *UUIDS[:3]), issued_part(0, *UUIDS[1:4])):
        with pytest.raises(LedgerError, match=rf"does not hold part {wrong.part} of this run with its devices$"):
            ledger.record(number, wrong, "now")


def test_a_writer_that_does_not_let_go(ledger: Ledger, work: Path) -> None:
    with closing(sqlite3.connect(work / "factory.ledger", isolation_level=None)) as somebody:
        somebody.execute("BEGIN IMMEDIATE")
        ledger._connection.execute("PRAGMA busy_timeout = 10")
        with pytest.raises(LedgerError, match=r"cannot be used: database is locked$") as raised:
            ledger.reserve(made_run(1), [part(0, *UUIDS)], seen=0)
        assert raised.value.hint == "wait for the other run to end its plan"
        assert len(ledger.devices(octets(*UUIDS)).values) == 0  # readers need not wait


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE runs (id)")


def newer(path: Path) -> None:
    opened = open_ledger(path, create=True)
    assert opened is not None
    opened.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")


@pytest.mark.parametrize(
    ("spoil", "error", "hint"),
    [
        (
            lambda path: path.write_text("no database " * 100),
            "the ledger L cannot be used: file is not a database",
            None,
        ),
        (lambda path: path.touch(), "L is a database, and no ledger", "--ledger names a file of its own"),
        (foreign, "L is a database, and no ledger", "--ledger names a file of its own"),
        (newer, "the ledger L has version 2, expected 1", "use the version of batch-issuer that made it"),
        (
            lambda path: path.symlink_to("nowhere/at/all"),
            "the ledger L cannot be used: unable to open database file",
            None,
        ),
    ],
    ids=["text", "empty", "foreign", "newer", "dangling"],
)
def test_a_file_that_is_no_ledger(spoil: Callable[[Path], None], error: str, hint: str | None) -> None:
    spoil(Path("L"))
    refusal(issue(csv_bytes(UUIDS), "--ledger", "L"), 2, error, hint=hint)
    told = f"error: {error}\n" + (f"hint: {hint}\n" if hint else "")
    assert run("ledger", "show", UUIDS[0], "--ledger", "L") == Ran(2, "", told)


def test_a_ledger_that_cannot_be_made() -> None:
    error = "the ledger nowhere/led cannot be made: No such file or directory"
    refusal(issue(csv_bytes(UUIDS), "--ledger", "nowhere/led"), 2, error)


def test_a_damaged_ledger() -> None:
    assert issue(csv_bytes(UUIDS), *LEDGER, "--out", "first").code == 0
    path = Path("factory.ledger")
    octets = bytearray(path.read_bytes())
    octets[4096 : 8 * 4096] = bytes(7 * 4096)
    path.write_bytes(octets)
    ran = issue(csv_bytes(UUIDS), *LEDGER)
    assert ran.code == 2
    assert ran.err.startswith("error: the ledger factory.ledger cannot be used: ")


# The commands


def test_show() -> None:
    assert issue(csv_bytes(UUIDS), *LEDGER).code == 0
    [entry] = [row for row in rows() if row["device_uuid"] == UUIDS[3]]
    ran = run("ledger", "show", UUIDS[3].upper(), *LEDGER)
    assert ran == Ran(0, "\n".join([
        f"Device:       {UUIDS[3]}",
        f"Issued:       {entry['issued']}",
        f"Serial:       {entry['serial_number']}",
        f"Public key:   {entry['public_key_sha256']}",
        "Production:   no",
        f"Not before:   {entry['not_before']}",
        f"Not after:    {entry['not_after']}",
        f"CA:           local-ca of acme, serial {entry['ca_serial']}",
        f"CA's key id:  {entry['ca_key_identifier']}",
        f"Run:          {run_id()} in {Path('issued').absolute()}",
        "",
    ]), "")  # fmt: skip


def test_show_of_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, csv_bytes(UUIDS), *LEDGER)
    assert "Issued:       not yet: an unfinished run holds it\n" in run("ledger", "show", UUIDS[6], *LEDGER).out
    [entry] = json.loads(run("ledger", "show", UUIDS[6], *LEDGER, "--json").out)
    assert (entry["issued"], entry["serial_number"], entry["run"]) == (None, None, run_id())


def test_show_of_what_is_not_there() -> None:
    assert issue(csv_bytes(UUIDS), *LEDGER).code == 0
    ran = run("ledger", "show", MORE[0], *LEDGER)
    assert (ran.code, ran.err) == (2, f"error: the ledger factory.ledger does not know the device {MORE[0]}\n")
    ran = run("ledger", "show", "x", *LEDGER)
    assert (ran.code, ran.err) == (2, "error: expected a UUID of 8-4-4-4-12 hexadecimal digits, got 'x'\n")
    ran = run("ledger", "show", MORE[0], "--ledger", "none")
    assert (ran.code, ran.err) == (2, "error: there is no ledger none\nhint: `issue --ledger` makes one\n")
    assert not Path("none").exists()


def test_release_of_a_run_whose_folder_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, csv_bytes(UUIDS), *LEDGER)
    held = run_id()
    ran = run("ledger", "release", held, *LEDGER)
    where = (
        f"the run is there, in {Path('issued').absolute()}, and may have issued what the ledger does not know of yet"
    )
    assert (ran.code, ran.err) == (2, f"error: {where}\nhint: resume it\n")
    Path("issued").rename("moved")
    assert issue(csv_bytes(UUIDS[3:]), *LEDGER).code == 2
    assert run("ledger", "release", held, *LEDGER) == Ran(0, "", "4 devices given up\n")
    assert issue(csv_bytes(UUIDS[3:]), *LEDGER).code == 0
    ran = issue(csv_bytes(UUIDS), *LEDGER, "--resume", "--out", "moved")
    taken = f"error: devices of the manifest were taken meanwhile by another run: {run_id()} in "
    assert (ran.code, ran.err.startswith(taken)) == (2, True)
    assert issue(csv_bytes(UUIDS[:3]), *LEDGER, "--out", "other").code == 3


def test_a_run_released_by_mistake_holds_again_by_its_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, csv_bytes(UUIDS), *LEDGER)
    Path("issued").rename("moved")
    assert run("ledger", "release", run_id("moved"), *LEDGER).code == 0
    assert issue(csv_bytes(UUIDS), *LEDGER, "--resume", "--out", "moved").code == 0
    agrees("moved")


def test_release_of_what_is_not_there() -> None:
    assert issue(csv_bytes(UUIDS), *LEDGER).code == 0
    ran = run("ledger", "release", "x", *LEDGER)
    assert (ran.code, ran.err) == (2, "error: the ledger factory.ledger knows no run 'x'\n")
    assert run("ledger", "release", run_id(), *LEDGER) == Ran(0, "", "0 devices given up\n")
    agrees("issued")
