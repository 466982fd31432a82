"""`register`: a run's devices at a factory API on loopback that fails, stops and comes back as a test wants it to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import gateways
import pytest
from api_servers import TOKEN, ApiServer, Asked, Fault, Reply, Reset
from judges import (
    FORMATS,
    Ran,
    contents,
    csv_bytes,
    csv_rows,
    device_uuids,
    file_system,
    interrupted_run,
    issue,
    modes,
    run,
    stored_bundles,
)
from made_runs import DEVICES, ROWS, UUIDS, MadeRun, Making, make_run
from mutants import make_authority
from pki import make_pki
from runs import PROGRAM, start

from batch_issuer.bundles.contents import PartBundles
from batch_issuer.errors import OutputError
from batch_issuer.factory_api import devices
from batch_issuer.factory_api.devices import Outcome, Registration
from batch_issuer.registering import report
from batch_issuer.registering.journal import Journal, RegisteredRows

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from mutants import Authority

NAMES: list[str | None] = [f"gerät-{index}" if index % 3 else None for index in range(DEVICES)]
GROUPS: list[str | None] = ["line, 1" if index % 4 == 1 else None for index in range(DEVICES)]
CARRIED: dict[str, list[Any]] = {"name": NAMES, "group": GROUPS}
HEADER = "row,device_uuid,outcome,status,message,api\n"
API = "http://127.0.0.1:1"
HINTS = {
    "conflict": "something else has the UUID or the name: a device with another key, or a deleted one on the factory's "
    "deny list (fioctl devices list-denied, delete-denied); change the name, or clear that away, and run this again",
    "refused": "put right what the API names, and run this again",
    "failed": "run this again: only devices that are not registered are sent",
}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BATCH_ISSUER_TOKEN", raising=False)
    monkeypatch.delenv("TOKEN_HEADER", raising=False)
    monkeypatch.setattr(devices, "RETRY_SECONDS", (0.01,) * 4)
    Path("token").write_text(f"{TOKEN}\n")


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as running:
        yield running


@pytest.fixture
def issued(authority: Authority) -> MadeRun:
    return make_run(Path("issued"), authority, "tar", Making(carried=CARRIED))


def register(server: ApiServer, *options: str) -> Ran:
    arguments = ("--api", server.url, "--token-file", "token", "--rate", "90000/s", *options)
    ran = run("register", "issued", *arguments)
    assert TOKEN not in ran.out + ran.err
    return ran


def recorded(api: str | None = None) -> dict[str, tuple[str, str]]:
    """What `registered.csv` says last of each device: outcome and status."""
    rows = csv_rows(Path("issued/registered.csv"))
    return {row["device_uuid"]: (row["outcome"], row["status"]) for row in rows if api in {None, row["api"]}}


def only(*uuids: str, fault: Fault) -> Any:
    return lambda asked: fault if asked.device_uuid in uuids else None


@pytest.mark.parametrize("with_certificates", [False, True], ids=["bundles", "manifest"])
@pytest.mark.parametrize("stored_as", FORMATS)
def test_every_device_is_created(
    server: ApiServer, authority: Authority, stored_as: str, with_certificates: bool
) -> None:
    making = Making({"with_certificates": with_certificates}, CARRIED)
    made = make_run(Path("issued"), authority, stored_as, making)
    bundles = stored_bundles(Path("issued"))
    if with_certificates:
        shutil.rmtree("issued/bundles")  # not needed then: keys can stay elsewhere
    ran = register(server)
    told = f"12 of 12 devices registered at {server.url}: 12 new, 0 there before, 0 in an earlier run\n"
    assert (ran.code, ran.out, ran.err) == (0, told, "")
    sent = {asked.device_uuid: asked.json() for asked in server.asked}
    for uuid, name, group in zip(UUIDS, NAMES, GROUPS, strict=True):
        expected = {"client.pem": bundles[uuid]["client.pem"].decode(), "name": name, "group": group}
        assert sent[uuid] == {key: value for key, value in expected.items() if value is not None}
    assert len(server.asked) == DEVICES
    assert not [asked for asked in server.asked if b"PRIVATE" in asked.body]
    rows = sorted(csv_rows(Path("issued/registered.csv")), key=lambda row: int(row["row"]))
    fixed = {"outcome": "created", "status": "201", "message": "", "api": server.url}
    assert rows == [{"row": str(row), "device_uuid": uuid, **fixed} for row, uuid in zip(ROWS, UUIDS, strict=True)]
    assert modes(Path("issued"))["registered.csv"] == 0o644
    assert made.record.accepted == DEVICES


@pytest.mark.usefixtures("issued")
def test_once_more_sends_nothing(server: ApiServer) -> None:
    register(server)
    before = contents(Path("issued"))
    ran = register(server)
    told = f"12 of 12 devices registered at {server.url}: 0 new, 0 there before, 12 in an earlier run\n"
    assert (ran.code, ran.out, len(server.asked)) == (0, told, DEVICES)
    assert contents(Path("issued")) == before
    Path("issued/registered.csv").unlink()
    ran = register(server)
    told = f"12 of 12 devices registered at {server.url}: 0 new, 12 there before, 0 in an earlier run\n"
    assert (ran.code, ran.out, len(server.asked)) == (0, told, 2 * DEVICES)
    assert set(recorded().values()) == {("existed", "200")}


@pytest.mark.usefixtures("issued")
def test_another_api_has_nothing_yet(server: ApiServer) -> None:
    register(server)
    with ApiServer() as other:
        assert register(other).code == 0
        assert len(other.devices) == DEVICES
        assert set(recorded(server.url)) == set(recorded(other.url)) == set(UUIDS)
    assert register(server).out.endswith("12 in an earlier run\n")


@pytest.mark.usefixtures("issued")
def test_a_group_for_rows_that_name_none(server: ApiServer) -> None:
    assert register(server, "--group", "site 2").code == 0
    assert [server.devices[uuid].group for uuid in UUIDS] == [group or "site 2" for group in GROUPS]


def test_an_empty_group_is_none(server: ApiServer, authority: Authority) -> None:
    make_run(Path("issued"), authority, "parquet", Making())
    assert register(server, "--group", "").code == 0
    assert {(device.name, device.group) for device in server.devices.values()} == {(None, None)}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_names_that_a_spreadsheet_would_run_are_sent_as_they_were(
    server: ApiServer, authority: Authority, kind: str
) -> None:
    names = ["=1+1", "'=1", "''@x", "'quoted'", "-7", "plain", "\tx", "'", "''", "+", "@", "a=b"]
    values = {"spreadsheet_safe": True, "manifest_format": kind}
    make_run(Path("issued"), authority, "tar", Making(values, {"name": names}))
    assert register(server).code == 0
    assert [server.devices[uuid].name for uuid in UUIDS] == names


@pytest.mark.usefixtures("issued")
def test_what_is_not_registered_is_told_by_reason_and_tried_again(server: ApiServer) -> None:
    def fault(asked: Asked) -> Fault:
        if asked.device_uuid in UUIDS[:2]:
            return Reply(409, {"msg": f"device {asked.device_uuid} has another key"})
        if asked.device_uuid == UUIDS[4]:
            return Reply(400, {"message": "no group: =cmd|'/c calc', \"x\""})
        return Reply(500, {"msg": "oops"}) if asked.device_uuid == UUIDS[5] else None

    server.fault = fault
    ran = register(server, "--concurrency", "1")
    told = f"8 of 12 devices registered at {server.url}: 8 new, 0 there before, 0 in an earlier run"
    assert (ran.code, ran.out) == (1, f"{told}; 2 conflicts, 1 refused, 1 failed\n")
    assert ran.err.splitlines() == [
        "  devices  outcome   status  what the API said",
        f"        2  conflict     409  device <uuid> has another key, such as {UUIDS[0]}",
        f"        1  refused      400  no group: =cmd|'/c calc', \"x\", such as {UUIDS[4]}",
        f"        1  failed       500  oops, such as {UUIDS[5]}",
        *(f"hint: {outcome}: {hint}" for outcome, hint in HINTS.items()),
    ]
    assert recorded()[UUIDS[0]] == ("conflict", "409")
    assert recorded()[UUIDS[5]] == ("failed", "500")
    server.asked.clear()
    server.fault = only(UUIDS[0], fault=Reply(409, {"msg": "=taken"}))
    ran = register(server, "--concurrency", "1", "--json")
    assert [asked.device_uuid for asked in server.asked] == [UUIDS[0], UUIDS[1], UUIDS[4], UUIDS[5]]
    summary = json.loads(ran.out)
    assert summary.pop("seconds") >= 0
    reason = {"outcome": "conflict", "status": 409, "message": "=taken", "devices": 1, "example": UUIDS[0]}
    counts = {"already": 8, "created": 3, "existed": 0, "conflicts": 1, "refused": 0, "failed": 0}
    assert summary == {"api": server.url, "devices": 12, "complete": True, "reasons": [reason], **counts}
    assert ran.code == 1
    assert csv_rows(Path("issued/registered.csv"))[-4]["message"] == "'=taken"
    server.fault = lambda _: None
    assert register(server).code == 0


@pytest.mark.usefixtures("issued")
def test_many_reasons_are_shortened_but_with_v(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.fault = lambda asked: Reply(400, {"msg": f"reason {len(server.asked)} of {asked.device_uuid}"})
    assert len(register(server).err.splitlines()) == 1 + DEVICES + 1
    monkeypatch.setattr(sys.modules["batch_issuer.cli.register"], "_SHOWN", 5)
    err = register(server).err.splitlines()
    assert (len(err), err[-2]) == (1 + 5 + 1 + 1, "… and 7 reasons more; -v lists them all")
    assert len(register(server, "-v").err.splitlines()) == 1 + DEVICES + 1
    monkeypatch.setattr(report, "_MOST_REASONS", 3)
    err = register(server).err.splitlines()
    assert len(err) == 1 + 4 + 1
    assert "9  refused        -  other messages; registered.csv has them all, such as " in err[1]


@pytest.mark.usefixtures("issued")
def test_quiet_is_quiet_but_for_what_is_wrong(server: ApiServer) -> None:
    server.fault = only(UUIDS[0], fault=Reply(400, {"msg": "no"}))
    ran = register(server, "-q")
    assert (ran.code, len(ran.err.splitlines())) == (1, 3)
    assert ran.out.endswith("; 0 conflicts, 1 refused, 0 failed\n")
    server.fault = lambda _: None
    ran = register(server, "-q")
    assert (ran.code, ran.out, ran.err) == (0, "", "")


@pytest.mark.usefixtures("issued")
def test_a_dry_run_asks_nobody_and_writes_nothing(server: ApiServer) -> None:
    before = contents(Path("issued"))
    Path("token").unlink()
    ran = run("register", "issued", "--api", server.url, "--dry-run")
    told = f"12 devices would be sent to {server.url}, 8 with a name, 3 with a group"
    assert (ran.code, ran.out, ran.err) == (0, f"{told}; 0 of 12 are registered already\n", "")
    assert (contents(Path("issued")), server.asked) == (before, [])
    Path("token").write_text(TOKEN)
    server.fault = only(UUIDS[1], fault=Reply(400))
    register(server)
    with Path("issued/registered.csv").open("a") as file:
        file.write("14,torn")
    before = contents(Path("issued"))
    ran = run("register", "issued", "--api", f"{server.url}/", "--dry-run", "--json", "--group", "g")
    expected = {"api": server.url, "devices": 12, "registered": 11, "to_send": 1, "named": 1, "grouped": 1}
    assert (json.loads(ran.out), contents(Path("issued"))) == (expected, before)


@pytest.mark.parametrize("stored_as", FORMATS)
def test_of_an_unfinished_run_what_is_committed(server: ApiServer, authority: Authority, stored_as: str) -> None:
    make_run(Path("issued"), authority, stored_as, Making(carried=CARRIED, committed=2, published=2))
    ran = register(server)
    warning = "warning: the run in issued is unfinished: only what is committed can be registered\n"
    told = f"10 of 10 devices registered at {server.url}: 10 new, 0 there before, 0 in an earlier run\n"
    assert (ran.code, ran.out, ran.err) == (0, told, warning)
    assert list(server.devices) == UUIDS[:10] or sorted(server.devices) == UUIDS[:10]


def test_what_is_committed_and_not_published_must_be_resumed(server: ApiServer, authority: Authority) -> None:
    make_run(Path("issued"), authority, "tar", Making(committed=2, published=1))
    ran = register(server, "--concurrency", "1")
    assert ran.err.splitlines()[1:] == [
        "warning: 5 devices registered before that; the same command goes on from there",
        "error: part-00001.tar cannot be opened: No such file or directory",
        "hint: `batch-issuer issue --resume` puts what a killed run committed into place; then do this again",
    ]
    assert (ran.code, sorted(server.devices)) == (1, UUIDS[:5])


def test_a_run_that_is_resumed_later(server: ApiServer, factory_pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("pki").symlink_to(factory_pki)
    uuids = device_uuids(8)
    manifest = csv_bytes(uuids)
    interrupted_run(monkeypatch, manifest, "--format", "tar")
    assert register(server).code == 0
    assert sorted(server.created) == uuids[:3]
    assert issue(manifest, "--format", "tar", "--resume").code == 0
    ran = register(server)
    told = f"8 of 8 devices registered at {server.url}: 5 new, 0 there before, 3 in an earlier run\n"
    assert (ran.code, ran.out, ran.err, sorted(server.created)) == (0, told, "", uuids)


def test_no_device_is_issued_yet(server: ApiServer, authority: Authority) -> None:
    make_run(Path("issued"), authority, "tar", Making(committed=0, published=0))
    for ran in (register(server), register(server, "--dry-run")):
        assert ran.err.splitlines()[1:] == ["error: no device is issued yet", "hint: resume the run first"]
        assert (ran.code, Path("issued/registered.csv").exists(), server.asked) == (2, False, [])


def test_a_folder_that_holds_no_run(server: ApiServer) -> None:
    Path("issued").mkdir()
    ran = register(server)
    assert (ran.code, ran.err) == (2, "error: issued holds no run: there is no run.json\n")
    assert contents(Path("issued")) == {}


@pytest.mark.usefixtures("issued")
def test_a_wrong_token_stops_at_once(server: ApiServer) -> None:
    Path("token").write_text("somebody-elses")
    ran = run("register", "issued", "--api", server.url, "--token-file", "token", "--concurrency", "3")
    assert ran.err.splitlines() == [
        f"error: PUT {server.url}/ota/devices/ was answered 401 Unauthorized: bad token",
        "hint: check the token: it is wrong, or has expired",
    ]
    assert (ran.code, ran.out) == (1, "")
    assert 1 <= len(server.asked) <= 3
    assert Path("issued/registered.csv").read_text() == HEADER
    Path("token").write_text(TOKEN)
    assert register(server).code == 0


@pytest.mark.usefixtures("issued")
def test_one_refused_token_stops_the_others_too(server: ApiServer) -> None:
    server.faults.append(Reply(401, {"msg": "bad token"}))
    ran = register(server, "--concurrency", "2", "--rate", "20/s")
    assert (ran.code, sorted(recorded())) == (1, sorted(server.created))
    assert len(server.created) <= 2


@pytest.mark.usefixtures("issued")
def test_a_token_that_expires_on_the_way(server: ApiServer) -> None:
    server.faults.extend([None] * 4)
    server.fault = lambda _: Reply(403, {"msg": "expired"})
    ran = register(server, "--concurrency", "1", "--json")
    assert ran.err.splitlines()[0] == "warning: 4 devices registered before that; the same command goes on from there"
    assert json.loads(ran.out)["error"] == f"PUT {server.url}/ota/devices/ was answered 403 Forbidden: expired"
    assert (ran.code, list(recorded()), len(server.asked)) == (1, UUIDS[:4], 5)
    server.fault = lambda _: None
    assert register(server).code == 0
    assert sorted(server.created) == UUIDS


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(200, b"<html>log in"), " was answered 200 OK, expected JSON, got: <html>log in"),
        (Reply(404, b"<html>"), " was answered 404 Not Found, expected JSON, got: <html>"),
        (
            Reply(302, None, {"Location": "/"}),
            " was answered 302, a redirect, which is not followed: the token would travel with it",
        ),
    ],
)
@pytest.mark.usefixtures("issued")
def test_what_is_no_api_stops_at_once(server: ApiServer, reply: Reply, said: str) -> None:
    server.fault = lambda _: reply
    ran = register(server, "--concurrency", "1")
    assert ran.err.splitlines()[0] == f"error: PUT {server.url}/ota/devices/{said}"
    assert (ran.code, len(server.asked), recorded()) == (1, 1, {})


@pytest.mark.usefixtures("issued")
def test_an_api_that_is_not_there() -> None:
    with ApiServer() as server:
        pass
    ran = register(server)
    assert ran.err == f"error: PUT {server.url}/ota/devices/: no connection: Connection refused\n"
    assert (ran.code, recorded()) == (1, {})


@pytest.mark.usefixtures("issued")
@pytest.mark.parametrize("fault", [Reply(503, {"msg": "down"}), Reset(processed=False)])
def test_an_api_that_fails_for_everyone(server: ApiServer, fault: Fault) -> None:
    server.fault = lambda _: fault
    ran = register(server, "--concurrency", "1")
    error, hint = ran.err.splitlines()
    assert error.startswith("error: the factory's API failed for 10 devices in a row, each tried several times: ")
    assert error.endswith("503 down" if isinstance(fault, Reply) else ": no whole answer came")
    assert hint == "hint: when it is well again, the same command goes on from there"
    assert (ran.code, len(server.asked)) == (1, 50)
    assert list(recorded()) == UUIDS[:10]
    server.fault = lambda _: None
    ran = register(server)
    assert (ran.code, sorted(server.created)) == (0, UUIDS)


@pytest.mark.usefixtures("issued")
def test_failures_between_successes_stop_nothing(server: ApiServer) -> None:
    server.fault = only(*UUIDS[1::2], *UUIDS[2::4], fault=Reply(500))
    ran = register(server, "--concurrency", "1")
    assert (ran.code, len(server.created), len(recorded())) == (1, 3, DEVICES)


@pytest.mark.usefixtures("issued")
def test_faults_that_pass(server: ApiServer) -> None:
    busy = Reply(429, {"msg": "slow down"}, {"Retry-After": "0"})
    server.faults.extend([Reply(500), Reply(500), None, Reset(processed=True), busy, None, Reset(processed=False)])
    ran = register(server)
    assert (ran.code, sorted(server.created)) == (0, UUIDS)
    assert sorted(outcome for outcome, _ in recorded().values()) == ["created"] * 11 + ["existed"]


@pytest.mark.usefixtures("issued")
def test_so_many_at_a_time(server: ApiServer) -> None:
    assert register(server, "--concurrency", "3").code == 0
    assert server.most_at_once <= 3


def test_a_second_registration_is_refused(server: ApiServer, issued: MadeRun) -> None:
    known = RegisteredRows(issued.record.rows, server.url)
    with Journal(Path("issued/registered.csv"), known, api=server.url):
        ran = register(server)
        error = "error: another process registers the devices of issued\nhint: wait for it to end\n"
        assert (ran.code, ran.err, server.asked) == (2, error, [])
    assert register(server).code == 0


LINE = f"1,{UUIDS[0]},created,201,,{API}\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("row,device_uuid\n", 1),
        ("\n", 1),
        (LINE, 1),
        (HEADER + "x" + LINE, 2),
        (HEADER + LINE + LINE.replace("created", "minted"), 3),
        (HEADER + LINE.replace("1,", "0,", 1), 2),
        (HEADER + LINE.replace("1,", "15,", 1), 2),
        (HEADER + LINE.replace("1,", "-1,", 1), 2),
        (HEADER + LINE.replace(",201", ""), 2),
        (HEADER + LINE.replace(UUIDS[0], "../../etc"), 2),
        (HEADER + LINE + "\0\0\0\n" + LINE, 3),
        (HEADER + "\udcff\n", 2),
        (HEADER + '1,"' + "x" * 200_000 + "\n", 2),
    ],
)
@pytest.mark.usefixtures("issued")
def test_a_damaged_file_is_refused_and_left_alone(server: ApiServer, text: str, line: int) -> None:
    Path("issued/registered.csv").write_bytes(text.encode(errors="surrogateescape"))
    before = contents(Path("issued"))
    for options in ((), ("--dry-run",)):
        ran = register(server, *options)
        assert ran.err.splitlines() == [
            f"error: line {line} of registered.csv is damaged, or of another run",
            "hint: move it away and register again: what the API has already is seen as existing",
        ]
        assert (ran.code, contents(Path("issued")), server.asked) == (2, before, [])


@pytest.mark.usefixtures("issued")
def test_a_file_of_another_run_is_refused(server: ApiServer) -> None:
    stranger = "f" * 8 + UUIDS[0][8:]
    Path("issued/registered.csv").write_text(f"{HEADER}1,{stranger},created,201,,{server.url}\n")
    ran = register(server)
    assert ran.err.splitlines()[0] == ("error: row 1 of registered.csv is another device than in the output manifest")
    assert (ran.code, server.asked) == (2, [])


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "fifo"])
@pytest.mark.usefixtures("issued")
def test_what_is_no_file_of_its_own_is_not_written(server: ApiServer, kind: str) -> None:
    place, victim = Path("issued/registered.csv"), Path("victim")
    victim.write_text(HEADER)
    if kind == "folder":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        place.symlink_to((victim if kind == "link" else Path("nowhere")).absolute())
    ran = register(server)
    reasons = {"folder": "Is a directory", "fifo": None}
    reason = reasons.get(kind, "Too many levels of symbolic links")
    error = f"issued/registered.csv cannot be written: {reason}" if reason else f"{place} is not a regular file"
    assert (ran.code, ran.err) == (2, f"error: {error}\n")
    assert (victim.read_text(), Path("nowhere").exists(), server.asked) == (HEADER, False, [])


def test_a_line_that_was_cut_off_anywhere_is_repaired(issued: MadeRun) -> None:
    path = Path("issued/registered.csv")
    outcomes = [
        Registration(Outcome.CREATED, 201),
        Registration(Outcome.CONFLICT, 409, 'taken, "twice": gerät'),
        Registration(Outcome.FAILED, None, "=no answer"),
    ]
    with Journal(path, RegisteredRows(issued.record.rows, API), api=API) as journal:
        for row, uuid, outcome in zip(ROWS, UUIDS, outcomes, strict=False):
            journal.append(row, uuid, outcome)
    whole = path.read_bytes()
    assert whole.decode() == (
        f"{HEADER}1,{UUIDS[0]},created,201,,{API}\n"
        f'2,{UUIDS[1]},conflict,409,"taken, ""twice"": gerät",{API}\n'
        f"4,{UUIDS[2]},failed,,'=no answer,{API}\n"
    )
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        known = RegisteredRows(issued.record.rows, API)
        with Journal(path, known, api=API) as journal:
            journal.append(ROWS[3], UUIDS[3], outcomes[0])
        kept = whole[: whole.rfind(b"\n", 0, length) + 1] or HEADER.encode()
        assert path.read_bytes() == kept + f"5,{UUIDS[3]},created,201,,{API}\n".encode()
        has = [known.has(row, uuid) for row, uuid in zip(ROWS[:3], UUIDS, strict=False)]
        assert has == [kept.count(b"\n") > 1, False, False]


def test_the_last_line_about_a_device_counts(issued: MadeRun) -> None:
    lines = [(1, "created"), (2, "conflict"), (1, "conflict"), (2, "existed"), (4, "created")]
    text = HEADER + "".join(f"{row},{UUIDS[ROWS.index(row)]},{outcome},,,{API}\n" for row, outcome in lines)
    text += f"4,{UUIDS[2]},failed,,,https://api.example.com\n"
    Path("issued/registered.csv").write_text(text)
    known = RegisteredRows(issued.record.rows, API)
    with Path("issued/registered.csv").open("rb") as file:
        assert known.read(file) == len(text)
    assert [known.has(row, UUIDS[ROWS.index(row)]) for row in (1, 2, 4, 5)] == [False, True, True, False]
    with pytest.raises(OutputError):
        known.has(2, UUIDS[0])


@pytest.mark.parametrize("stored_as", FORMATS)
def test_certificates_that_changed_places_are_not_sent(server: ApiServer, authority: Authority, stored_as: str) -> None:
    def swapped(part: PartBundles) -> PartBundles:
        first, second, *rest = part.certificates
        return PartBundles(part.device_uuids, part.private_keys, [second, first, *rest], part.root, part.sota_toml)

    make_run(Path("issued"), authority, stored_as, Making(stored=swapped))
    ran = register(server, "--concurrency", "1")
    assert ran.err.splitlines() == [
        f"error: the certificate of {UUIDS[0]} is not the one that the output manifest says",
        "hint: `batch-issuer verify` tells what is wrong with this run",
    ]
    assert (ran.code, server.asked) == (1, [])


@pytest.mark.parametrize(
    "text", ["", "nothing", "{key}", "{pem}{key}", "{key}{pem}", "{pem}{pem}", "x{pem}", "{cut}", "{pem}\0"]
)
def test_a_certificate_file_with_something_else_in_it_is_not_sent(
    server: ApiServer, authority: Authority, text: str
) -> None:
    make_run(Path("issued"), authority, "dir", Making())
    folder = Path("issued/bundles", UUIDS[0])
    pem, key = (folder / "client.pem").read_text(), (folder / "pkey.pem").read_text()
    (folder / "client.pem").write_text(text.format(pem=pem, key=key, cut=pem.replace("\nM", "\n", 1)))
    ran = register(server, "--concurrency", "1")
    assert (ran.code, server.asked) == (1, [])
    assert "PRIVATE" not in ran.err
    (folder / "client.pem").write_text(pem)
    assert register(server).code == 0


@pytest.mark.parametrize("stored_as", FORMATS)
def test_a_bundle_that_is_gone_is_named(server: ApiServer, authority: Authority, stored_as: str) -> None:
    make_run(Path("issued"), authority, stored_as, Making())
    name = UUIDS[0] if stored_as == "dir" else f"part-00000.{stored_as}"
    Path("issued/bundles", name).rename("aside")
    kind = " as a folder" if stored_as == "dir" else ""
    ran = register(server)
    assert ran.err.splitlines() == [
        f"error: {name} cannot be opened{kind}: No such file or directory",
        "hint: `batch-issuer verify` tells what is wrong with this run",
    ]
    assert ran.code == 1


@pytest.mark.usefixtures("issued")
def test_parts_that_changed_places_are_found(server: ApiServer) -> None:
    first, second = (Path(f"issued/bundles/part-0000{index}.tar") for index in (0, 1))
    first.rename("aside")
    second.rename(first)
    Path("aside").rename(second)
    ran = register(server)
    wrong = f"bundles/part-00000.tar has no bundle of {UUIDS[0]} where the output manifest has it"
    assert (ran.code, ran.err.splitlines()[0], server.asked) == (1, f"error: {wrong}", [])


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("bundles/part-00000.tar", "bundles/../../v.tar", "the output manifest names a bundle that cannot be"),
        ("1,", "99,", "the output manifest has a row that cannot be"),
        (UUIDS[0], "../../etc", "the output manifest names a bundle that cannot be"),
        ("row,", "line,", "manifest.csv is missing or damaged"),
    ],
)
def test_a_manifest_that_leads_elsewhere_is_not_believed(
    server: ApiServer, issued: MadeRun, old: str, new: str, error: str
) -> None:
    text = issued.manifest.read_text()
    head, _, rest = text.partition("\n")
    changed = f"{head.replace(old, new)}\n{rest}" if old == "row," else f"{head}\n{rest.replace(old, new, 1)}"
    issued.manifest.write_text(changed)
    ran = register(server)
    assert ran.err.startswith(f"error: {error}")
    assert (ran.code, server.asked) == (2, [])


@pytest.mark.parametrize("value", ["0", "-1", "1/h", "fast", "1e9", "", "0.0/s", "1/s/s", "9999999"])
@pytest.mark.usefixtures("issued")
def test_rates_that_are_none(server: ApiServer, value: str) -> None:
    ran = register(server, "--rate", value)
    assert f"expected a number of requests per s or m, such as 20/s; got {value!r}" in ran.err
    assert (ran.code, server.asked) == (2, [])


@pytest.mark.parametrize("value", ["1000", "999.5/s", "60000/m"])
@pytest.mark.usefixtures("issued")
def test_rates(server: ApiServer, value: str) -> None:
    assert register(server, "--rate", value).code == 0


@pytest.mark.usefixtures("issued")
def test_an_address_that_would_give_the_token_away() -> None:
    ran = run("register", "issued", "--api", "http://api.foundries.io", "--token-file", "token")
    assert ran.err.splitlines()[0].endswith("the token would travel in the clear")
    ran = run("register", "issued", "--api", f"https://me:{TOKEN}@api.foundries.io", "--token-file", "token")
    assert (ran.code, TOKEN in ran.err) == (2, False)
    ran = run("register", "issued", "--api", "https://api.foundries.io")
    assert (ran.code, ran.err.splitlines()[0]) == (2, "error: the factory's API needs a token, and there is none")
    assert not Path("issued/registered.csv").exists()


def test_a_full_disk_loses_nothing_that_is_written(server: ApiServer, authority: Authority) -> None:
    with file_system(Path("disk"), "size=256k,mode=700") as disk:
        make_run(disk / "issued", authority, "parquet", Making({"with_certificates": True}))
        Path("issued").symlink_to(disk / "issued")
        path = disk / "issued/registered.csv"
        path.write_text(HEADER + f"14,{UUIDS[-1]},failed,,{'x' * 3500},{server.url}\n")  # nearly a block
        status = os.statvfs(disk)
        (disk / "filler").write_bytes(bytes(status.f_bavail * status.f_frsize))
        ran = register(server, "--concurrency", "1")
        assert "error: No space left on device\n" in ran.err
        assert ran.code == 1
        (disk / "filler").unlink()
        assert 0 < len(recorded()) < DEVICES
        ran = register(server)
        assert (ran.code, sorted(server.created)) == (0, UUIDS)
        assert {outcome for outcome, _ in recorded().values()} <= {"created", "existed"}


def program(server: ApiServer, *options: str) -> subprocess.Popen[str]:
    arguments = ["register", "issued", "--api", server.url, "--token-file", "token", *options]
    return start([*PROGRAM, *arguments])


def await_asked(server: ApiServer, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while len(server.asked) < count:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("seed", range(4))
def test_kill_loses_nothing_and_doubles_nothing(server: ApiServer, authority: Authority, seed: int) -> None:
    make_run(Path("issued"), authority, FORMATS[seed % len(FORMATS)], Making(carried=CARRIED))
    kills = Random(seed)
    for _ in range(2):
        process = program(server, "--rate", "200/s", "--concurrency", "4")
        await_asked(server, len(server.asked) + kills.randint(1, 5), process)
        process.kill()
        process.communicate()
        known = dict(recorded()) if Path("issued/registered.csv").read_bytes().startswith(HEADER.encode()) else {}
        assert all(uuid in server.devices for uuid in known)
    process = program(server, "--rate", "9999/s", "--json")
    out, _ = process.communicate(timeout=60)
    summary = json.loads(out)
    assert (process.returncode, summary["conflicts"] + summary["refused"] + summary["failed"]) == (0, 0)
    assert summary["created"] + summary["existed"] + summary["already"] == DEVICES
    assert sorted(server.created) == UUIDS
    assert set(recorded()) == set(UUIDS)
    assert {outcome for outcome, _ in recorded().values()} <= {"created", "existed"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.usefixtures("issued")
def test_a_signal_lets_what_is_on_its_way_come_to_its_answer(server: ApiServer, number: signal.Signals) -> None:
    server.hold()
    process = program(server, "--concurrency", "3", "--rate", "9999/s")
    await_asked(server, 3, process)
    process.send_signal(number)
    assert process.stderr is not None
    told = "warning: stopping when the requests on their way are answered; once more to stop at once\n"
    assert process.stderr.readline() == told
    server.release()
    out, err = process.communicate(timeout=60)
    assert err == ("error: interrupted: 3 devices registered, 9 left\nhint: the same command goes on from there\n")
    assert (process.returncode, out, sorted(server.created)) == (130, "", sorted(recorded()))
    assert len(server.created) == 3
    ran = register(server)
    assert (ran.code, sorted(server.created)) == (0, UUIDS)
    assert ran.out.endswith("9 new, 0 there before, 3 in an earlier run\n")


@pytest.mark.usefixtures("issued")
def test_a_signal_between_two_tries(server: ApiServer) -> None:
    server.fault = lambda _: Reply(503, None, {"Retry-After": "200"})
    process = program(server, "--concurrency", "2")
    await_asked(server, 1, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.splitlines()[-2]) == (130, "error: interrupted: 0 devices registered, 12 left")
    assert recorded() == {}


@pytest.mark.usefixtures("issued")
def test_a_second_signal_ends_it_at_once(server: ApiServer) -> None:
    server.hold()
    process = program(server, "--concurrency", "3")
    await_asked(server, 1, process)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("warning: stopping")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[0] == "error: interrupted: 0 devices registered, 12 left"
    server.release()
    assert register(server).code == 0
    assert sorted(server.created) == UUIDS


@pytest.mark.usefixtures("issued")
def test_the_token_is_in_no_argument_and_no_output(server: ApiServer) -> None:
    server.fault = lambda _: Reply(400, {"msg": f"you sent {TOKEN}"})
    server.hold()
    process = program(server, "-v")
    await_asked(server, 1, process)
    command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    server.release()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "you sent <token>" in err
    said = [command.decode(), out, err, Path("issued/registered.csv").read_text()]
    assert not [text for text in said if TOKEN in text]
    assert {asked.headers["OSF-TOKEN"] for asked in server.asked} == {TOKEN}


def test_with_the_real_gateway(work: Path, factory_pki: Path) -> None:
    uuids = device_uuids(8)
    rows = [f"{uuid},device-{index},{'line 2' if index % 2 else ''}" for index, uuid in enumerate(uuids)]
    manifest = csv_bytes(rows, "device_uuid,name,group")
    for out in ("issued", "again"):
        assert issue(manifest, "--format", "tar", "--out", out).code == 0
    make_pki(Path("foreign"))
    assert issue(csv_bytes(uuids), "--pki", "foreign", "--out", "strange").code == 0
    with gateways.serving(work / "server", pki=factory_pki) as gateway:
        token = ("--api", gateway.api, "--token-file", "server.token", "--rate", "500/s")
        ran = run("register", "strange", *token, "--json")
        assert (ran.code, json.loads(ran.out)["refused"]) == (1, 8)
        assert gateway.ask("GET", "/ota/devices/").json["total"] == 0
        ran = run("register", "issued", *token, "--group", "line 1")
        told = f"8 of 8 devices registered at {gateway.api}: 8 new, 0 there before, 0 in an earlier run\n"
        assert (ran.code, ran.out, ran.err) == (0, told, "")
        shown = gateway.ask("GET", "/ota/devices/").json["devices"]
        known = {device["uuid"]: (device["name"], device["group"]["name"]) for device in shown}
        assert known == {uuid: (f"device-{i}", f"line {1 + i % 2}") for i, uuid in enumerate(uuids)}
        Path("issued/registered.csv").unlink()
        ran = run("register", "issued", *token, "--group", "line 1", "--json")
        assert (ran.code, json.loads(ran.out)["existed"]) == (0, 8)
        ran = run("register", "again", *token, "--group", "line 1", "--json")
        assert (ran.code, json.loads(ran.out)["conflicts"]) == (1, 8)
        Path("server.token").write_text("wrong")
        ran = run("register", "again", *token)
        assert (ran.code, "was answered 401 Unauthorized" in ran.err) == (1, True)
    verified = run("verify", "issued", "--pki", factory_pki)
    assert verified.code == 0, verified.err
