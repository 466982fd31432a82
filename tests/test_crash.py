"""Nothing is lost and nothing is doubled: runs that are killed, stopped and starved, and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from random import Random

import audit
import pytest
import runs
from chaos import LONG, tell
from crash_matrix import SEALED, SIGNER, new_recipient
from cryptography import x509
from csrs import csr_manifest, forms_of, spki_of
from pki import make_pki

FORMATS = ("dir", "tar", "parquet", "tar sealed", "parquet sealed")
P12 = ("p12", "p12-random")
RANDOM_KILLS = int(os.environ.get("BATCH_ISSUER_CHAOS", "8"))
KILL_SECONDS = {
    name: 125 if LONG and name in ("dir", "tar", "parquet") else 40 if LONG else 600 for name in (*FORMATS, *P12)
}
"""For the random kills of each format: all of `make chaos` is to end in ten minutes."""
DEVICES, PART, SLEEP = (1000, "25", (0.2, 0.75)) if LONG else (4000, "100", (0.0, 1.2))
"""Of these runs; short ones are audited sooner, so there are more kills."""
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    make_pki(folder, signer=SIGNER)
    return folder


@pytest.fixture(scope="module")
def ca(pki: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((pki / "local-ca.pem").read_bytes())


def matrix(bundle_format: str, pki: Path, folder: Path, *flaw: str) -> dict[str, object]:
    arguments = [sys.executable, str(HERE / "crash_matrix.py"), bundle_format, str(pki), str(folder), *flaw]
    ended = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=300)
    result: dict[str, object] = json.loads(ended.stdout.splitlines()[-1])
    return result


@pytest.mark.parametrize("bundle_format", [*FORMATS, *P12])
def test_killed_before_every_file_operation(bundle_format: str, pki: Path, tmp_path: Path) -> None:
    """Each kill is followed by an audit, a resume and an audit: steps 1 to 5, and what lies between."""
    result = matrix(bundle_format, pki, tmp_path)
    tell(f"kill -9 everywhere, {bundle_format}", int(str(result["kills"])), int(str(result["rows"])))
    assert result["failures"] == []
    assert int(str(result["kills"])) >= 50


@pytest.mark.parametrize("bundle_format", FORMATS)
def test_killed_before_file_operations_with_some_devices_csrs(bundle_format: str, pki: Path, tmp_path: Path) -> None:
    """Every third operation: which ones a run has does not depend on its CSRs, and each format begins at another."""
    result = matrix(bundle_format, pki, tmp_path, "mixed", str(FORMATS.index(bundle_format) % 3), "3")
    print(f"{bundle_format}, mixed: kills {result['kills']}, failures {len(result['failures'])}")  # type: ignore[arg-type]
    assert result["failures"] == []
    assert int(str(result["kills"])) >= 30


@pytest.mark.parametrize("flaw", ["publish-first", "summary-first", "stale-report", "sweep-all", "sweep-none"])
def test_the_audit_finds_an_order_that_is_wrong(flaw: str, pki: Path, tmp_path: Path) -> None:
    """Bundles in place before their part is committed; a run that says it is finished before all of it is there; a
    resume that sweeps too much, or nothing; a report of a finish that was killed.
    """
    assert matrix("tar", pki, tmp_path, flaw)["failures"] != []


def test_the_audit_finds_passwords_of_an_attempt_that_was_not_committed(pki: Path, tmp_path: Path) -> None:
    assert matrix("p12-random", pki, tmp_path, "stale-passwords")["failures"] != []


def test_the_audit_finds_a_part_that_is_sealed_too_late(pki: Path, tmp_path: Path) -> None:
    """The file in the clear is gone before the run goes on: only a kill in between shows it."""
    assert matrix("tar sealed", pki, tmp_path, "clear-first")["failures"] != []


@pytest.mark.parametrize("bundle_format", [*FORMATS, "p12-random"])
def test_killed_at_random_instants(bundle_format: str, pki: Path, ca: x509.Certificate, tmp_path: Path) -> None:
    """The whole process group of the real program, again and again, each time resumed."""
    random = Random(bundle_format)
    manifest, lots = tmp_path / "devices.parquet", 0
    wanted = runs.write_manifest(manifest, min(DEVICES, 1500) if bundle_format in P12 else DEVICES)
    stored_as, sealed, _ = bundle_format.partition(SEALED)
    seal = ["--seal-to", new_recipient(tmp_path)] if sealed else []
    kills, before = 0, dict[str, str]()
    out = tmp_path / "out-0"
    deadline = time.monotonic() + KILL_SECONDS[bundle_format]
    while kills < RANDOM_KILLS and time.monotonic() < deadline:
        kind = runs.format_options(stored_as)
        options = [*kind, "--part-size", PART, "--workers", "2", "--resume", "-q", *seal]
        process = runs.start(runs.issue_arguments(manifest, pki, out, *options))
        time.sleep(random.uniform(*SLEEP))
        if process.poll() is None:
            runs.kill_group(process)
            kills += 1
            now = audit.check_interrupted(out) if out.exists() else {}
            if sealed and out.exists():
                audit.check_no_clear_key(out)
            assert before.items() <= now.items(), "a resumed run lost or changed what was issued"
            before = now
        else:
            process.communicate()
            assert process.returncode == 0
            audit.check_finished(out, wanted, ca, before)
            lots, before = lots + 1, {}
            out = tmp_path / f"out-{lots}"
    assert runs.run(runs.issue_arguments(manifest, pki, out, *options)).returncode == 0
    audit.check_finished(out, wanted, ca, before)
    tell(f"kill -9 at random, {bundle_format}", kills, (lots + 1) * len(wanted))


def test_a_mixed_run_killed_at_random_instants(pki: Path, ca: x509.Certificate, tmp_path: Path) -> None:
    """Among these instants are those at which CSRs are checked, which takes most of such a run's time."""
    random, lots = Random(11), 0
    wanted = [str(uuid.UUID(int=random.getrandbits(128), version=4)) for _ in range(3000)]
    csrs = forms_of(wanted, 2)
    brought = {device: spki_of(csr) for device, csr in csrs.items()}
    manifest, out = tmp_path / "devices.csv", tmp_path / "out-0"
    manifest.write_bytes(csr_manifest(wanted, csrs))
    options = ["--format", "parquet", "--manifest-format", "parquet", "--part-size", "100", "--resume", "-q"]
    kills, before = 0, dict[str, str]()
    deadline = time.monotonic() + KILL_SECONDS["parquet sealed"]
    while kills < RANDOM_KILLS and time.monotonic() < deadline:
        process = runs.start(runs.issue_arguments(manifest, pki, out, *options))
        time.sleep(random.uniform(0.1, 0.8))
        if process.poll() is None:
            runs.kill_group(process)
            kills += 1
            now = audit.check_interrupted(out, brought) if out.exists() else {}
            assert before.items() <= now.items(), "a resumed run lost or changed what was issued"
            before = now
        else:
            process.communicate()
            audit.check_finished(out, wanted, ca, before, brought)
            lots, before = lots + 1, {}
            out = tmp_path / f"out-{lots}"
    assert runs.run(runs.issue_arguments(manifest, pki, out, *options)).returncode == 0
    audit.check_finished(out, wanted, ca, before, brought)
    tell("kill -9 at random, with CSRs", kills, (lots + 1) * len(wanted))
    with pytest.raises(AssertionError, match="has a private key or none, and should not"):
        audit.check_finished(out, wanted, ca, before)


def test_workers_killed_ten_times_are_replaced(pki: Path, ca: x509.Certificate, tmp_path: Path) -> None:
    manifest, out = tmp_path / "devices.parquet", tmp_path / "out"
    wanted = runs.write_manifest(manifest, 12_000)
    process = runs.start(
        runs.issue_arguments(manifest, pki, out, "--format", "tar", "--part-size", "100", "--workers", "2")
    )
    killed: set[int] = set()
    due = 1
    while len(killed) < 10 and process.poll() is None:
        os.killpg(process.pid, signal.SIGSTOP)  # on a busy machine to look takes longer than the run
        done = {int(commit.stem.removeprefix("part-")) for commit in (out / ".run").glob("commits/*.arrow")}
        victims = [pid for pid in runs.workers(process, out) if pid not in killed]
        if done >= set(range(due)) and victims:
            os.kill(victims[0], signal.SIGKILL)
            killed.add(victims[0])
            due = max(done) + 4  # what two workers are at now is committed before the next: no part kills three
        os.killpg(process.pid, signal.SIGCONT)
        time.sleep(0.005)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert len(killed) == 10
    assert "it is replaced" in told
    audit.check_finished(out, wanted, ca, {})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("to_group", [False, True])
def test_a_stop_ends_after_the_current_parts_and_is_resumable(
    number: signal.Signals, to_group: bool, pki: Path, ca: x509.Certificate, tmp_path: Path
) -> None:
    """As from another terminal, and as from the keyboard, where the whole group gets the signal."""
    manifest, out = tmp_path / "devices.parquet", tmp_path / "out"
    wanted = runs.write_manifest(manifest, 8_000)
    arguments = runs.issue_arguments(manifest, pki, out, "--format", "parquet", "--part-size", "100", "--workers", "2")
    process = runs.start(arguments)
    assert runs.await_file(out / ".run/commits", process, "*.arrow")
    (os.killpg if to_group else os.kill)(process.pid, number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert f"{number.name}: stopping after the current parts" in told
    assert "hint: the same command with --resume goes on from here" in told
    before = audit.check_interrupted(out)
    assert 0 < len(before) < len(wanted)
    assert not runs.group_outlives(process.pid)
    resumed = runs.run([*arguments, "--resume"])
    assert resumed.returncode == 0, resumed.stderr
    assert f"8,000 devices issued: {len(before):,} before, {8000 - len(before):,} now in " in resumed.stdout
    audit.check_finished(out, wanted, ca, before)


def test_a_second_stop_ends_at_once_and_is_resumable(pki: Path, ca: x509.Certificate, tmp_path: Path) -> None:
    manifest, out = tmp_path / "devices.parquet", tmp_path / "out"
    wanted = runs.write_manifest(manifest, 8_000)
    options = ["--format", "dir", "--part-size", "2000", "--workers", "2", "--resume"]
    arguments = runs.issue_arguments(manifest, pki, out, *options)
    process = runs.start(arguments)
    assert runs.await_file(out / ".run/staging", process, "part-*")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "stopping after the current parts" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.startswith("error: interrupted twice: stopped at once\n")
    before = audit.check_interrupted(out)
    assert runs.run(arguments).returncode == 0
    audit.check_finished(out, wanted, ca, before)


def test_a_finished_run_resumed_does_nothing(pki: Path, tmp_path: Path) -> None:
    manifest, out = tmp_path / "devices.parquet", tmp_path / "out"
    runs.write_manifest(manifest, 50)
    arguments = runs.issue_arguments(manifest, pki, out, "--format", "tar")
    assert runs.run(arguments).returncode == 0
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in out.rglob("*")}
    again = runs.run([*arguments, "--resume"])
    assert again.returncode == 0
    assert "the run is finished already: nothing to do" in again.stderr
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in out.rglob("*")} == before


STOPPING = """
import os, signal, sys
from batch_issuer.cli import main
rename = os.rename

def stop(*paths, **more):
    if os.path.basename(paths[1]).startswith("manifest."):
        os.kill(os.getpid(), signal.SIGSTOP)
    rename(*paths, **more)

os.rename = stop
main()
"""
"""The program, which stops itself where nothing but the last step of its run is left."""


def test_the_second_of_two_runs_on_one_folder_is_refused(pki: Path, ca: x509.Certificate, tmp_path: Path) -> None:
    """The first can neither end before the second comes nor keep it waiting, however busy the machine is."""
    manifest, out = tmp_path / "devices.parquet", tmp_path / "out"
    wanted = runs.write_manifest(manifest, 500)
    arguments = runs.issue_arguments(manifest, pki, out, "--format", "tar", "--part-size", "100")
    first = runs.start([sys.executable, "-c", STOPPING, *arguments[len(runs.PROGRAM) :]])
    assert os.WIFSTOPPED(os.waitpid(first.pid, os.WUNTRACED)[1])
    try:
        second = runs.run([*arguments, "--resume"])
    finally:
        os.kill(first.pid, signal.SIGCONT)
        _, told = first.communicate(timeout=120)
    assert second.returncode == 2
    assert second.stderr.startswith(f"error: the output folder {out} is in use by another run\n")
    assert first.returncode == 0, told
    audit.check_finished(out, wanted, ca, {})


def test_a_resume_waits_for_the_workers_that_a_killed_run_left(pki: Path, ca: x509.Certificate, tmp_path: Path) -> None:
    """Only the parent dies: its workers still write, and two processes must never write one part."""
    manifest, out = tmp_path / "devices.parquet", tmp_path / "out"
    wanted = runs.write_manifest(manifest, 8_000)
    options = ["--format", "dir", "--part-size", "1000", "--workers", "2", "--resume"]
    arguments = runs.issue_arguments(manifest, pki, out, *options)
    process = runs.start(arguments)
    assert runs.await_file(out / ".run/staging", process, "part-*")
    os.kill(process.pid, signal.SIGKILL)
    resumed = runs.run(arguments)
    process.communicate()
    assert resumed.returncode == 0, resumed.stderr
    audit.check_finished(out, wanted, ca, {})
