"""Runs whose CA key is in a token: a token that goes away, workers that die, where a PIN is not. SoftHSM, for real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import audit
import pytest
import runs
from cryptography import x509
from judges import run_process
from pki import make_pki
from softhsm import LABEL, MODULE, PIN, SoftHsm, need_softhsm

from batch_issuer.batch.signature import ca_signature
from batch_issuer.errors import AuthorityError, RunFailedError
from batch_issuer.minting.keys import OpenSSLKeys

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSPHRASE = "horse-battery-91c2"  # noqa: S105 - of no key
OF_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can look into these processes")
SECRETS = (PIN.encode(), PASSPHRASE.encode())


@pytest.fixture(autouse=True)
def _softhsm() -> None:
    need_softhsm()


@pytest.fixture
def hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHsm:
    """A token that holds the root's key and local-ca's of the directory `pki`."""
    for variable in ("BATCH_ISSUER_HSM_PIN", "BATCH_ISSUER_CA_PASSPHRASE", "BATCH_ISSUER_PKI"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    made = SoftHsm.make(tmp_path / "hsm", monkeypatch)
    done = run_process("ca", "create", "pki", "--factory", "acme", "--gateway-host", "gw.example.com", "--hsm-local-ca",
                       *made.options)  # fmt: skip
    assert done.code == 0, done.err
    return made


def ca() -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path("pki/local-ca.pem").read_bytes())


def arguments(devices: int, *options: str) -> tuple[list[str], list[str]]:
    """The command line of a run to `issued`, and its devices."""
    wanted = runs.write_manifest(Path("devices.parquet"), devices)
    given = ("--format", "parquet", "--days", "30", *options)
    return runs.issue_arguments(Path("devices.parquet"), Path("pki"), Path("issued"), *given), wanted


def is_of_softhsm(pid: int) -> bool:
    """Whether a process has the module loaded."""
    return "libsofthsm2" in Path(f"/proc/{pid}/maps").read_text()


def await_signing_workers(process: subprocess.Popen[str], wanted: int) -> None:
    """Until so many workers have the module, and have had the time of ten parts to open the token."""
    commits, enough = Path("issued/.run/commits"), None
    while process.poll() is None:
        here = len(list(commits.glob("*.arrow")))
        if enough is None and sum(map(is_of_softhsm, runs.workers(process, Path("issued").absolute()))) == wanted:
            enough = here + 10
        if enough is not None and here >= enough:
            return
        time.sleep(0.005)
    pytest.fail("the run ended before its workers signed")


# A token that goes away ---------------------------------------------------------------------------------------------


def test_a_token_that_goes_away_ends_the_run_resumable(hsm: SoftHsm) -> None:
    """The token's files are taken away while the workers sign, as a token is pulled out; later they are back."""
    command, wanted = arguments(30_000, "--part-size", "200", "--workers", "2", *hsm.options)
    process = runs.start(command)
    assert runs.await_file(Path("issued/.run/commits"), process, "*.arrow")
    await_signing_workers(process, 2)
    hsm.tokens.rename(hsm.folder / "elsewhere")
    out, told = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert told.splitlines()[-2:] == [
        f"error: the token '{LABEL}' failed or is gone (CKR_OBJECT_HANDLE_INVALID)",
        "hint: the same command with --resume goes on from here",
    ]
    before = audit.check_interrupted(Path("issued"))
    assert 0 < len(before) < len(wanted)
    hsm.tokens.mkdir()
    gone = runs.run([*command, "--resume"])
    assert gone.returncode == 2
    assert gone.stderr == f"error: the PKCS#11 module {MODULE} has no token labelled '{LABEL}'; it has: none\n"
    hsm.tokens.rmdir()
    (hsm.folder / "elsewhere").rename(hsm.tokens)
    resumed = runs.run([*command, "--resume"])
    assert resumed.returncode == 0, resumed.stderr
    audit.check_finished(Path("issued"), wanted, ca(), before)


def test_a_token_that_is_gone_when_a_worker_starts_ends_the_run_resumable() -> None:
    class Gone:
        def open(self) -> None:
            raise AuthorityError("the token allows no more sessions", hint="take fewer --workers")

    class Issuer:
        key = Gone()

    with pytest.raises(RunFailedError, match=r"^the token allows no more sessions$") as caught:
        ca_signature(Issuer(), OpenSSLKeys())  # type: ignore[arg-type]
    assert (caught.value.exit_code, caught.value.hint) == (1, "take fewer --workers")


def test_a_dead_worker_is_replaced_by_one_with_a_session_of_its_own(hsm: SoftHsm) -> None:
    command, wanted = arguments(12_000, "--part-size", "100", "--workers", "2", *hsm.options)
    process = runs.start(command)
    killed: set[int] = set()
    first_seen: dict[int, int] = {}
    while len(killed) < 3 and process.poll() is None:
        commits = len(list(Path("issued/.run").glob("commits/*.arrow")))
        for worker in set(runs.workers(process, Path("issued").absolute())) - killed:
            # One that has had the time for a part: the part that a killed one left must not be the end of three.
            if commits >= first_seen.setdefault(worker, commits) + 10:
                os.kill(worker, signal.SIGKILL)
                killed.add(worker)
                break
        time.sleep(0.005)
    _, told = process.communicate(timeout=120)
    assert len(killed) == 3
    assert process.returncode == 0, told
    audit.check_finished(Path("issued"), wanted, ca(), {})


def test_many_workers_open_the_token_at_once(hsm: SoftHsm) -> None:
    """Each login makes SoftHSM write the token's file anew, which others must not read meanwhile."""
    for attempt in range(3):
        options = ("--part-size", "1", "--workers", "12", "--out", f"run-{attempt}", *hsm.options)
        command, _ = arguments(24, *options)
        done = runs.run(command)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("first", ["file", "token"])
def test_a_run_is_resumed_however_its_key_is_reached(hsm: SoftHsm, first: str) -> None:
    make_pki(Path("other"))
    hsm.remove("local-ca")
    hsm.import_key(Path("other/local-ca.key"), "local-ca")
    Path("pki").rename("unused")
    Path("other").rename("pki")
    key, kept = Path("pki/local-ca.key"), Path("kept.key")
    by_file, wanted = arguments(20_000, "--part-size", "200", "--workers", "1")
    by_token = [*by_file, *hsm.options]
    begun, resumed = (by_file, by_token) if first == "file" else (by_token, by_file)
    if first == "token":
        key.rename(kept)
    process = runs.start(begun)
    assert runs.await_file(Path("issued/.run/commits"), process, "*.arrow")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    (key if first == "file" else kept).rename(kept if first == "file" else key)
    record = Path("issued/run.json").read_text()
    done = runs.run([*resumed, "--resume"])
    assert done.returncode == 0, done.stderr
    audit.check_finished(Path("issued"), wanted, ca(), {})
    assert not any(word in record for word in (str(MODULE), LABEL, PIN))


# Processes ----------------------------------------------------------------------------------------------------------


@OF_ROOT
def test_only_the_parent_and_the_workers_load_the_module(hsm: SoftHsm) -> None:
    """Workers are forked, so whatever they are forked from must never have initialised PKCS#11 (section 5.4)."""
    command, _ = arguments(30_000, "--part-size", "200", "--workers", "2", *hsm.options)
    process = runs.start(command)
    assert runs.await_file(Path("issued/.run/commits"), process, "*.arrow")
    await_signing_workers(process, 2)
    workers = runs.workers(process, Path("issued").absolute())
    others = [pid for pid in runs.members(process.pid) if pid not in (process.pid, *workers)]
    assert len(workers) == 2
    assert all(map(is_of_softhsm, workers))
    assert is_of_softhsm(process.pid)
    assert any("forkserver" in Path(f"/proc/{pid}/cmdline").read_text() for pid in others)
    assert not any(map(is_of_softhsm, others))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


class Watch:
    """Reads the arguments, the environment and the core limit of a command's processes while it runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.arguments: dict[int, bytes] = {}
        self.environments: dict[int, bytes] = {}
        self.core_limits: dict[int, str] = {}
        self._process = process
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while self._process.poll() is None:
            for pid in runs.members(self._process.pid):
                self._look(pid)

    def _look(self, pid: int) -> None:
        folder = Path(f"/proc/{pid}")
        try:
            self.arguments[pid] = (folder / "cmdline").read_bytes()
            self.environments[pid] = (folder / "environ").read_bytes()
            limits = (folder / "limits").read_text().splitlines()
        except OSError:
            return
        self.core_limits[pid] = next(line for line in limits if line.startswith("Max core file size"))

    def end(self) -> None:
        self._thread.join()


def files_below(folder: Path, besides: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and path != besides and besides.parent / "tokens" not in path.parents:
            yield path


@OF_ROOT
@pytest.mark.parametrize("end", ["finished", "failed", "refused"])
def test_a_pin_is_nowhere(hsm: SoftHsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """In no argument, no child's environment, no text and no file of a run that ends well, midway, or at once."""
    monkeypatch.setenv("BATCH_ISSUER_HSM_PIN", PIN)
    monkeypatch.setenv("BATCH_ISSUER_CA_PASSPHRASE", PASSPHRASE)
    if end == "refused":
        hsm.remove("local-ca")
    command, _ = arguments(20_000, "--part-size", "200", "--workers", "2", "-v", "--json", *hsm.place)
    process = runs.start(command)
    watch = Watch(process)
    if end == "failed":
        assert runs.await_file(Path("issued/.run/commits"), process, "*.arrow")
        hsm.tokens.rename(hsm.folder / "tokens.gone")
        (hsm.folder / "tokens.gone").rename(hsm.folder / "elsewhere")
    out, told = process.communicate(timeout=120)
    watch.end()
    if end == "failed":
        (hsm.folder / "elsewhere").rename(hsm.tokens)
    assert process.returncode == {"finished": 0, "failed": 1, "refused": 2}[end]
    assert ("Traceback (most recent call last)" in told) is (end != "finished")
    children = {pid: text for pid, text in watch.environments.items() if pid != process.pid}
    assert len(children) >= (2 if end == "refused" else 4)  # the fork server, its tracker, and the workers
    seen = [out.encode(), told.encode(), *watch.arguments.values(), *children.values()]
    assert not any(secret in text for secret in SECRETS for text in seen)
    assert not any(b"BATCH_ISSUER_" in text for text in children.values())
    for path in files_below(tmp_path, hsm.pin):
        assert not any(secret in path.read_bytes() for secret in SECRETS), path
    # The test itself sees secrets: the first process has what the shell gave it.
    assert PIN.encode() in watch.environments[process.pid]
    assert {watch.core_limits[pid].split()[4:6] == ["0", "0"] for pid in children} == {True}


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes somebody else")
def test_another_process_of_the_user_cannot_read_a_secret_of_the_environment() -> None:
    code = (
        "import os, subprocess, sys\n"
        "from batch_issuer.core_dumps import forbid_core_dumps\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "command = ['cat', f'/proc/{os.getpid()}/environ']\n"
        "def readable(): return subprocess.run(command, capture_output=True).returncode\n"
        "import ctypes; ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)\n"
        "before = readable(); forbid_core_dumps(); print(before, readable())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0 1\n", done.stderr


def test_a_ceremonys_pin_is_in_no_output_and_no_file(
    hsm: SoftHsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_ISSUER_HSM_PIN", PIN)
    said = b""
    for command in (
        ("ca", "create", "again", "--factory", "acme"),
        ("ca", "rotate-tls", "pki"),
        ("ca", "add-device-ca", "pki", "--hsm-local-ca", "--local-ca-filename", "site2.pem"),
        ("ca", "disable-device-ca", "pki", "--ca-file", "site2"),
        ("ca", "rotate-tls", "pki", "--hsm-token-label", "another"),
    ):
        ran = run_process(*command, *hsm.place[:2], *(() if "another" in command else hsm.place[2:]))
        assert ran.code == (2 if "again" in command or "another" in command else 0), ran.err
        said += (ran.out + ran.err).encode()
    assert PIN.encode() not in said
    for path in files_below(tmp_path, hsm.pin):
        assert PIN.encode() not in path.read_bytes(), path


def test_an_issuer_does_not_show_its_key(hsm: SoftHsm) -> None:
    code = (
        "from datetime import UTC, datetime\n"
        "from pathlib import Path\n"
        "from batch_issuer.authority.issuer import load_issuer\n"
        "from batch_issuer.authority.tokens import Token\n"
        f"token = Token(Path({str(MODULE)!r}), {LABEL!r}, lambda _: {PIN!r})\n"
        "issuer = load_issuer(Path('pki'), 'local-ca', now=datetime.now(UTC), token=token)\n"
        "print(repr(issuer), repr(issuer.key))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "label='local-ca'" in done.stdout
    assert PIN not in done.stdout
