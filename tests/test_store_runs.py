"""Runs into an object store, by the real program against a real S3 API on loopback: their way, faults and end."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import threading
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import audit
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import runs
from cryptography import x509
from pages import parsed
from pki import make_pki
from stores import BUCKET, SECRET, Request, Stores, copy_prefix, serving

from batch_issuer.batch.home import home_of
from batch_issuer.batch.store_home import StoreHome
from batch_issuer.bundles.contents import PartBundles
from batch_issuer.bundles.format import bundle_format
from batch_issuer.devices import CertificateDer, Sec1Der
from batch_issuer.output.folder import OutputFolder
from batch_issuer.stores.address import StoreAddress
from batch_issuer.stores.lease import LEASE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEVICES = 50
FORMATS = ("dir", "tar", "tar.zst", "parquet")


@pytest.fixture(scope="module")
def stores() -> Iterator[Stores]:
    with serving() as started:
        yield started


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    make_pki(folder)
    return folder


class Lot:
    """One prefix, one manifest, and the program on them."""

    def __init__(self, stores: Stores, pki: Path, folder: Path, scratch: Path) -> None:
        self.stores, self.pki, self.folder, self.scratch = stores, pki, folder, scratch
        self.prefix = stores.prefix()
        self.address = f"s3://{BUCKET}/{self.prefix}"
        self.wanted = runs.write_manifest(folder / "devices.parquet", DEVICES)

    def arguments(self, *more: str, bundle_format: str = "tar") -> list[str]:
        asked = runs.issue_arguments(self.folder / "devices.parquet", self.pki, self.folder, *more)
        asked[asked.index("--out") + 1] = self.address
        return [*asked, "--format", bundle_format, "--part-size", "20", "--workers", "2", "-q"]

    def environment(self, **more: str) -> dict[str, str]:
        return self.stores.environment | {"TMPDIR": str(self.scratch)} | more

    def run(self, arguments: list[str], **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            arguments,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
        )
        for told in (done.stdout, done.stderr):
            assert SECRET not in told
            assert "PRIVATE KEY" not in told
        return done

    def issue(self, *more: str, bundle_format: str = "tar", **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run(self.arguments(*more, bundle_format=bundle_format), **environment)

    def other(self, command: str, *more: str) -> subprocess.CompletedProcess[str]:
        return self.run([*runs.PROGRAM, command, self.address, *more])

    def copy(self, name: str = "copy") -> Path:
        copy_prefix(self.stores.client, self.prefix, self.folder / name)
        return self.folder / name

    def check(self, name: str = "copy") -> None:
        ca = x509.load_pem_x509_certificate((self.pki / "local-ca.pem").read_bytes())
        audit.check_finished(self.copy(name), self.wanted, ca, {})
        assert list(self.scratch.iterdir()) == []


@pytest.fixture
def lot(stores: Stores, pki: Path, tmp_path: Path) -> Iterator[Lot]:
    with TemporaryDirectory() as scratch:  # a short path: sockets are in it
        yield Lot(stores, pki, tmp_path, Path(scratch))


@pytest.mark.parametrize("bundle_format", FORMATS)
def test_a_run_goes_there_and_comes_back(bundle_format: str, lot: Lot) -> None:
    done = lot.issue(bundle_format=bundle_format)
    assert done.returncode == 0, done.stderr
    assert ("recommended for stores" in done.stderr) == (bundle_format == "dir")
    lot.check()
    verified = lot.other("verify", "--pki", str(lot.pki))
    assert (verified.returncode, verified.stderr) == (0, "")
    assert "50 of 50 devices in 3 of 3 parts verified" in verified.stdout
    extracted = lot.other("extract", "--all", "--to", str(lot.folder / "devices"))
    assert extracted.stderr == ""
    found = audit.visible(_as_run(lot.folder / "devices", lot.folder / "as-run"), {})
    assert set(found) == set(lot.wanted)
    one = lot.other("extract", lot.wanted[33].upper(), "--to", str(lot.folder / "one"))
    assert (one.returncode, [path.name for path in (lot.folder / "one").glob("[0-9a-f]*")]) == (0, [lot.wanted[33]])
    assert (lot.folder / "one" / lot.wanted[33] / "pkey.pem").stat().st_mode & 0o777 == 0o600
    assert list(lot.scratch.iterdir()) == []
    again = lot.issue("--resume", bundle_format=bundle_format)
    assert again.returncode == 0
    assert not [
        request for request in lot.stores.proxy.seen[-8:] if request.key.endswith("run.json") and request.is_put
    ]


def _as_run(devices: Path, to: Path) -> Path:
    to.mkdir()
    (to / "bundles").symlink_to(devices)
    return to


def test_a_copied_run_is_read_as_one(lot: Lot) -> None:
    """By what reads folders alone: after `aws s3 cp --recursive` with umask 077 and the modes that verify asks for."""
    assert lot.issue(bundle_format="dir").returncode == 0
    copied = lot.copy()
    for path in (copied, *copied.rglob("*")):
        private = path.name in {"pkey.pem", "sota.toml"}
        path.chmod(0o700 if path.is_dir() else 0o600 if private else 0o644)
    verified = lot.run([*runs.PROGRAM, "verify", str(copied), "--pki", str(lot.pki)])
    assert (verified.returncode, verified.stderr) == (0, "")
    extracted = lot.run([*runs.PROGRAM, "extract", str(copied), "--all", "--to", str(lot.folder / "devices")])
    assert (extracted.returncode, extracted.stderr) == (0, "")


@pytest.mark.parametrize("bundle_format", ["dir", "parquet"])
def test_a_store_with_every_fault_loses_nothing(bundle_format: str, lot: Lot) -> None:
    """Every third request is answered late, by 500 or 503, or its answer is lost, or the request is."""
    faults, turn = cycle(["drop", 0.05, "late-500", "503", "cut", "500"]), threading.Lock()

    def fault(request: Request) -> Any:
        with turn:
            return next(faults) if request.number % 3 == 2 else None

    lot.stores.proxy.fault = fault
    done = lot.issue(bundle_format=bundle_format)
    assert done.returncode == 0, done.stderr
    verified = lot.other("verify", "--pki", str(lot.pki))
    assert (verified.returncode, verified.stderr) == (0, "")
    lot.stores.proxy.fault = lambda _: None
    lot.check()


def _refuse_uploads(request: Request) -> str | None:
    return "403" if request.is_put and request.key.split("/")[-1].startswith("part-00002.") else None


def test_a_run_that_the_store_refuses_midway_is_resumed(lot: Lot) -> None:
    """As when credentials expire."""
    lot.stores.proxy.fault = _refuse_uploads
    done = lot.issue()
    assert done.returncode == 1
    assert f"in {lot.address}: 403 SlowDown" in done.stderr
    assert done.stderr.rstrip().endswith("the same command with --resume goes on from here")
    assert list(lot.scratch.iterdir()) == []
    lot.stores.proxy.fault = lambda _: None
    assert LEASE not in lot.stores.keys(lot.prefix)
    unfinished = lot.other("verify", "--pki", str(lot.pki), "--json")
    assert unfinished.returncode == 4
    assert json.loads(unfinished.stdout)["counts"] == {"run-unfinished": 1}
    refused = lot.issue()
    assert (refused.returncode, refused.stderr) == (
        2,
        f"error: the output folder {lot.address} holds an unfinished run\n"
        "hint: --resume goes on with it, or take another --out\n",
    )
    other = lot.issue("--resume", "--days", "30")
    assert (other.returncode, "error: the run began otherwise: days was 7300, now 30" in other.stderr) == (2, True)
    assert lot.issue("--resume").returncode == 0
    lot.check()


@pytest.mark.parametrize("same_machine", [True, False])
def test_the_second_of_two_runs_is_refused(lot: Lot, *, same_machine: bool) -> None:
    """On one machine by the scratch folder's lock, on two by the lease."""
    there, go_on = threading.Event(), threading.Event()

    def fault(request: Request) -> None:
        if request.is_put and request.key.endswith("run.json") and not there.is_set():
            there.set()
            go_on.wait(120)

    lot.stores.proxy.fault = fault
    first = subprocess.Popen(lot.arguments(), env=lot.environment(), stderr=subprocess.PIPE, text=True)
    try:
        assert there.wait(60)
        more = [] if same_machine else ["--scratch", str(lot.folder / "elsewhere")]
        (lot.folder / "elsewhere").mkdir()
        second = lot.issue(*more, "--resume")
        assert second.returncode == 2
        assert second.stderr.startswith(f"error: the output folder {lot.address} is in use by another run")
    finally:
        go_on.set()
        _, told = first.communicate(timeout=120)
    assert first.returncode == 0, told
    lot.check()


@pytest.mark.parametrize("late", ["part-00001.", "manifest.parquet", "SHA256SUMS"])
def test_a_run_that_wakes_after_another_took_over_ends(late: str, lot: Lot) -> None:
    """Its put of `late` is on its way when the lease is another's, which finishes: no device is lost."""
    there, go_on = threading.Event(), threading.Event()

    def fault(request: Request) -> None:
        if request.is_put and request.key.split("/")[-1].startswith(late) and not there.is_set():
            there.set()
            go_on.wait(120)

    lot.stores.proxy.fault = fault
    first = subprocess.Popen(lot.arguments(), env=lot.environment(), stderr=subprocess.PIPE, text=True)
    try:
        assert there.wait(60)
        lot.stores.delete(lot.prefix, LEASE)  # as if it had grown old
        (lot.folder / "elsewhere").mkdir()
        second = lot.issue("--scratch", str(lot.folder / "elsewhere"), "--resume")
        assert second.returncode == 0, second.stderr
    finally:
        go_on.set()
        _, told = first.communicate(timeout=120)
    assert (first.returncode, f"another run has taken {lot.address} over" in told) == (1, True), told
    if late != "SHA256SUMS":
        lot.check()
        return
    # It was put after the look at the lease, and has the summary and the report of the first: what is lost, and named.
    found = json.loads(lot.other("verify", "--pki", str(lot.pki), "--json").stdout)
    assert found["counts"] == {"sums-digest": 2}  # the summary and the report


def _refuse_all(_: Request) -> str:
    return "403"


def _refuse_writing(request: Request) -> str | None:
    return "403" if request.method in {"PUT", "DELETE", "POST"} else None


@pytest.mark.parametrize("fault", [_refuse_all, _refuse_writing])
def test_credentials_that_are_wrong_or_may_only_read_are_told(fault: Callable[[Request], Any], lot: Lot) -> None:
    lot.stores.proxy.fault = fault
    refused = lot.issue()
    assert (refused.returncode, refused.stderr.startswith("error: the store refuses to ")) == (2, True)
    assert f"in {lot.address}: 403" in refused.stderr
    lot.stores.proxy.fault = lambda _: None
    assert lot.stores.keys(lot.prefix) == []
    assert not list(lot.scratch.rglob("part-*"))


def test_a_bucket_that_is_missing_is_told(lot: Lot) -> None:
    lot.address = "s3://no-such-bucket/lot"
    for done in (lot.issue(), lot.issue("--dry-run"), lot.other("verify"), lot.other("extract", "--all", "--to", "x")):
        assert done.returncode == 2
        assert "error: the bucket no-such-bucket of s3://no-such-bucket/lot does not exist\n" in done.stderr


def test_what_is_there_already_is_not_touched(lot: Lot) -> None:
    lot.stores.put(lot.prefix, "notes.txt", b"mine")
    refused = lot.issue()
    assert (refused.returncode, refused.stderr) == (
        2,
        f"error: the output folder {lot.address} is not empty: it holds 'notes.txt'\n"
        "hint: take a new or empty prefix for --out\n",
    )
    assert lot.stores.keys(lot.prefix) == ["notes.txt"]


def test_what_is_refused_leaves_nothing(lot: Lot) -> None:
    pq.write_table(pa.table({"device_uuid": [*lot.wanted, "not-a-uuid"]}), lot.folder / "devices.parquet")
    for more in ((), ("--dry-run",)):
        assert lot.issue(*more).returncode == 3
        assert lot.stores.keys(lot.prefix) == []
        assert list(lot.scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("environment", "code", "told"),
    [
        ({"AWS_ENDPOINT": "http://127.0.0.1:1"}, 1, "cannot be reached to "),
        ({"AWS_ENDPOINT": "http://store.example"}, 2, "AWS_ENDPOINT is http://store.example: private keys would pass"),
        (
            {
                "AWS_ACCESS_KEY_ID": "",
                "AWS_SECRET_ACCESS_KEY": "",
                "AWS_METADATA_ENDPOINT": "http://169.254.169.254:1",
                "AWS_CONNECT_TIMEOUT": "200ms",
            },
            2,
            "no credentials for ",
        ),
    ],
)
def test_a_store_that_cannot_be_used_is_told(lot: Lot, environment: dict[str, str], code: int, told: str) -> None:
    for arguments in (lot.arguments(), [*runs.PROGRAM, "verify", lot.address]):
        variables = {name: value for name, value in lot.environment(**environment).items() if value}
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=180, env=variables)
        assert (done.returncode, done.stderr.startswith("error: "), told in done.stderr) == (code, True, True)
        assert SECRET not in done.stderr
        assert "Traceback" not in done.stderr


def test_an_address_with_a_password_is_refused_and_not_shown(lot: Lot) -> None:
    lot.address = f"s3://me:hunter2@{BUCKET}/{lot.prefix}"
    for done in (lot.issue(), lot.issue("-v"), lot.other("verify"), lot.other("extract", "--all", "--to", "x")):
        assert done.returncode == 2
        assert "an address of an object store has no user name, password or query in it" in done.stderr
        assert "hunter2" not in done.stderr + done.stdout


@pytest.mark.parametrize("command", [["gateway", "probe"], ["register"], ["export"]])
def test_other_commands_want_a_copy(lot: Lot, command: list[str]) -> None:
    done = lot.run([*runs.PROGRAM, *command, lot.address])
    assert done.returncode == 2
    assert f"error: this command reads a folder, and {lot.address} is in an object store" in done.stderr


def _without_a_part(lot: Lot, parts: list[str]) -> None:
    lot.stores.delete(lot.prefix, parts[0])


def _changed_part(lot: Lot, parts: list[str]) -> None:
    octets = bytearray(lot.stores.get(lot.prefix, parts[1]))
    with tarfile.open(fileobj=io.BytesIO(octets)) as archive:
        octets[next(member for member in archive if member.name.endswith("sota.toml")).offset_data + 3] ^= 1
    lot.stores.put(lot.prefix, parts[1], bytes(octets))


def _loser(lot: Lot, parts: list[str]) -> None:
    lot.stores.put(lot.prefix, "bundles/part-00002.0badcafe.tar", lot.stores.get(lot.prefix, parts[2]))


def _stranger(lot: Lot, _: list[str]) -> None:
    lot.stores.put(lot.prefix, "notes/today.txt", b"mine")
    lot.stores.put(lot.prefix, "key.pem", b"mine")


def _leftover(lot: Lot, _: list[str]) -> None:
    lot.stores.put(lot.prefix, LEASE, b"{}")


def _changed_manifest(lot: Lot, _: list[str]) -> None:
    lot.stores.put(lot.prefix, "rejects.csv", b"row,column,value,code,message\n")


def test_verify_finds_what_is_wrong(lot: Lot) -> None:
    assert lot.issue().returncode == 0
    parts = sorted(name for name in lot.stores.keys(lot.prefix) if name.startswith("bundles/"))
    kept = {name: lot.stores.get(lot.prefix, name) for name in lot.stores.keys(lot.prefix)}
    wrongs: dict[Callable[[Lot, list[str]], None], set[str]] = {
        _without_a_part: {"bundle-missing", "sums-no-file"},
        _changed_part: {"sums-digest"},
        _loser: {"bundle-unknown"},
        _stranger: {"folder-unknown"},
        _leftover: {"run-leftover"},
        _changed_manifest: {"sums-no-line"},
    }
    for wrong, codes in wrongs.items():
        wrong(lot, parts)
        found = lot.other("verify", "--pki", str(lot.pki), "--json")
        assert found.returncode == 4, wrong.__name__
        assert codes <= set(json.loads(found.stdout)["counts"]), (wrong.__name__, found.stderr)
        for name in lot.stores.keys(lot.prefix):
            lot.stores.delete(lot.prefix, name)
        for name, content in kept.items():
            lot.stores.put(lot.prefix, name, content)
    assert lot.other("verify", "--pki", str(lot.pki)).returncode == 0
    assert list(lot.scratch.iterdir()) == []


def test_verify_finds_what_is_wrong_with_folders(lot: Lot) -> None:
    assert lot.issue(bundle_format="dir").returncode == 0
    folder = next(name for name in lot.stores.keys(lot.prefix) if name.endswith("pkey.pem")).rpartition("/")[0]
    lot.stores.put(lot.prefix, f"{folder}/more.txt", b"x")
    lot.stores.put(lot.prefix, f"{folder.rpartition('/')[0]}/stranger/pkey.pem", b"x")
    lot.stores.delete(lot.prefix, f"{folder}/root.crt")
    found = json.loads(lot.other("verify", "--pki", str(lot.pki), "--json").stdout)
    assert {"bundle-unknown", "sums-no-file"} <= set(found["counts"])
    told = "\n".join(finding["message"] for finding in found["findings"])
    assert "more.txt does not belong there" in told
    assert "the manifest does not know 'stranger'" in told


def test_a_manifest_in_a_store(lot: Lot) -> None:
    lot.stores.put(lot.prefix, "in.parquet", (lot.folder / "devices.parquet").read_bytes())
    asked = lot.arguments()
    asked[asked.index("--manifest") + 1] = f"{lot.address}/in.parquet"
    asked[asked.index("--out") + 1] = f"{lot.address}/out"
    dry = lot.run([*asked, "--dry-run"])
    assert (dry.returncode, dry.stdout.startswith("50 devices of 50 rows would be issued")) == (0, True)
    assert lot.run(asked).returncode == 0
    lot.prefix += "/out"
    lot.check()
    asked[asked.index("--manifest") + 1] = f"{lot.address}/nothing.csv"
    asked[asked.index("--out") + 1] = f"{lot.address}/other"
    missing = lot.run(asked)
    assert (missing.returncode, missing.stderr) == (2, f"error: the manifest {lot.address}/nothing.csv is not there\n")


def test_the_ledger_knows_a_run_in_a_store(lot: Lot) -> None:
    ledger = str(lot.folder / "ledger")
    lot.stores.proxy.fault = _refuse_uploads
    assert lot.issue("--ledger", ledger).returncode == 1
    lot.stores.proxy.fault = lambda _: None
    run = json.loads(lot.stores.get(lot.prefix, "run.json"))["ledger_run"]
    refused = lot.run([*runs.PROGRAM, "ledger", "release", run, "--ledger", ledger])
    assert (refused.returncode, f"the run is there, in {lot.address}" in refused.stderr) == (2, True)
    assert lot.issue("--ledger", ledger, "--resume").returncode == 0
    lot.check()
    audit.check_ledger(lot.folder / "copy", lot.folder / "ledger")


def test_sealed_parts_go_there_sealed(lot: Lot) -> None:
    pyrage = pytest.importorskip("pyrage")
    identity = pyrage.x25519.Identity.generate()
    (lot.folder / "identity").write_text(f"{identity}\n")
    (lot.folder / "identity").chmod(0o600)
    assert lot.issue("--seal-to", str(identity.to_public())).returncode == 0
    names = [name for name in lot.stores.keys(lot.prefix) if name.startswith("bundles/")]
    assert all(name.endswith(".tar.zst.age") for name in names)
    commands = [code.text for code in parsed(lot.stores.get(lot.prefix, "report.html")).all("code")]
    assert f"batch-issuer extract {lot.address} --all --to bundles --identity FILE" in commands
    assert "batch-issuer register COPY --api URL --token-file FILE --identity FILE --dry-run" in commands
    assert lot.stores.get(lot.prefix, names[0]).startswith(b"age-encryption.org/v1")
    opened = ("--identity", str(lot.folder / "identity"))
    verified = lot.other("verify", "--pki", str(lot.pki), *opened)
    assert (verified.returncode, verified.stderr) == (0, "")
    assert lot.other("extract", "--all", "--to", str(lot.folder / "devices"), *opened).returncode == 0


def test_the_first_attempt_wins_and_the_other_is_gone(
    stores: Stores, lot: Lot, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in lot.environment().items():
        monkeypatch.setenv(name, value)
    folder = OutputFolder(lot.scratch)
    folder.staging.mkdir(parents=True)
    (folder.work / "owners").write_text("me")
    stores.put(lot.prefix, LEASE, b'{"owner": "me"}')
    parts = StoreHome(StoreAddress("s3", BUCKET, lot.prefix), folder).parts(bundle_format("tar"))
    devices = [uuid.encode() for uuid in lot.wanted[:3]]
    keys, certificates = [Sec1Der(b"k")] * 3, [CertificateDer(b"c")] * 3
    bundles = PartBundles(devices, list(keys), certificates, CertificateDer(b"r"), None)
    for attempt in ("aaaaaaaa", "bbbbbbbb"):
        parts.stage(bundles, 0, attempt)
    assert list(folder.staging.iterdir()) == []
    assert parts.commit(0, "bbbbbbbb", memoryview(b"the second was faster"))
    assert not parts.commit(0, "aaaaaaaa", memoryview(b"the first"))
    assert stores.keys(lot.prefix) == [".run/commits/part-00000.arrow", LEASE, "bundles/part-00000.bbbbbbbb.tar"]
    assert stores.get(lot.prefix, ".run/commits/part-00000.arrow") == b"the second was faster"


def test_a_scratch_folder_that_others_can_write_is_refused(lot: Lot) -> None:
    folder = home_of(StoreAddress("s3", BUCKET, lot.prefix), lot.scratch).folder.path
    folder.mkdir()
    folder.chmod(0o777)
    refused = lot.issue()
    assert (refused.returncode, f"{folder} can be written by others" in refused.stderr) == (2, True)
    assert lot.stores.keys(lot.prefix) == []


def test_a_lease_of_this_machines_dead_run_is_taken_over_at_once(lot: Lot) -> None:
    """And what it left in the scratch folder, with keys, goes; on another machine the lease must age."""
    folder = home_of(StoreAddress("s3", BUCKET, lot.prefix), lot.scratch).folder
    folder.attempt(0, "0badcafe").mkdir(parents=True)
    folder.path.chmod(0o700)
    (folder.attempt(0, "0badcafe") / "part-00000.0badcafe.tar").write_bytes(b"keys")
    (folder.work / "owners").write_text("dead-one")
    lot.stores.put(lot.prefix, LEASE, b'{"owner": "dead-one", "beat": 7}')
    (lot.folder / "elsewhere").mkdir()
    refused = lot.issue("--scratch", str(lot.folder / "elsewhere"))
    assert (refused.returncode, "is in use by another run: its lease was renewed" in refused.stderr) == (2, True)
    assert lot.issue().returncode == 0
    lot.check()


def test_p12_files_in_a_store_are_read_from_a_copy(lot: Lot) -> None:
    """Somebody put them there; and the options for their passwords are refused where no run needs one."""
    assert lot.issue().returncode == 0
    password = lot.folder / "password"
    password.write_text("long enough for a password")
    password.chmod(0o600)
    for command in (("verify",), ("extract", "--all", "--to", str(lot.folder / "devices"))):
        wrong = lot.other(*command, "--p12-password-file", str(password))
        needless = f"--p12-password-file is not for the run in {lot.address}, which needs no password"
        assert (wrong.returncode, needless in wrong.stderr) == (2, True)
    record = json.loads(lot.stores.get(lot.prefix, "run.json")) | {"format": "p12", "p12_passwords": "run"}
    lot.stores.put(lot.prefix, "run.json", json.dumps(record).encode())
    for command in (("verify",), ("extract", "--all", "--to", str(lot.folder / "devices"))):
        refused = lot.other(*command, "--p12-password-file", str(password))
        told = f"the run in {lot.address} is of format p12, which is read from a folder and not from an object store"
        assert (refused.returncode, refused.stderr.splitlines()[0]) == (2, f"error: {told}")


def test_p12_files_go_into_a_folder(lot: Lot) -> None:
    for more in ((), ("--dry-run",)):
        refused = lot.issue("--p12-random-passwords", *more, bundle_format="p12")
        assert refused.returncode == 2
        assert "error: --format p12 goes into a folder, and not into an object store" in refused.stderr
    assert lot.stores.keys(lot.prefix) == []
