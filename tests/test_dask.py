"""Runs on Dask: real clusters, whose workers are killed, whose client is lost, whose tasks run twice."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import audit
import pytest
import runs
from crash_matrix import Silent
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from judges import private_values, shows_a_key
from pki import make_pki
from test_processes import always_dies_at_three, start_always_dying, start_failing

from batch_issuer.authority.issuer import load_issuer
from batch_issuer.authority.worker_keys import PathKey, WorkerTokenKey
from batch_issuer.batch.request import RunRequest
from batch_issuer.batch.run import issue
from batch_issuer.cluster.options import ClusterOptions, check_options
from batch_issuer.errors import AuthorityError, OutputError, RefusedError, RunFailedError
from batch_issuer.minting.keys import choose_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batch_issuer.cluster.connection import Connection

FAST = ("--format", "parquet", "--part-size", "100")
OWN = (*FAST, "--engine", "dask", "--workers", "2")
HERE = Path(__file__).parent

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    make_pki(folder)
    return folder


@pytest.fixture(scope="module")
def ca(pki: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((pki / "local-ca.pem").read_bytes())


def lock_holders(process: subprocess.Popen[str], out: Path) -> list[int]:
    return [pid for pid in runs.workers(process, out) if pid != process.pid]


def test_a_run_whose_workers_are_killed_ten_times_and_whose_client_is_killed_is_exact(
    pki: Path, ca: x509.Certificate, tmp_path: Path
) -> None:
    manifest, out = tmp_path / "devices.parquet", tmp_path / "out"
    wanted = runs.write_manifest(manifest, 12_000)
    arguments = runs.issue_arguments(manifest, pki, out, *OWN, "--resume")
    process = runs.start(arguments)
    killed: set[int] = set()
    due = 1
    while len(killed) < 10 and process.poll() is None:
        victims = [pid for pid in lock_holders(process, out) if pid not in killed]
        done = {int(commit.stem.removeprefix("part-")) for commit in (out / ".run").glob("commits/*.arrow")}
        if victims and done >= set(range(due)):
            os.kill(victims[0], signal.SIGKILL)
            killed.add(victims[0])
            due = max(done) + 5  # what is in flight now is committed before the next: no part kills three
        time.sleep(0.005)
    assert len(killed) == 10, process.communicate()
    process.kill()  # the client, with its scheduler; its workers end with it
    process.communicate()
    before = audit.check_interrupted(out)
    assert 0 < len(before) < len(wanted)
    resumed = runs.run(arguments)
    assert resumed.returncode == 0, resumed.stderr
    assert f"12,000 devices issued: {len(before):,} before, " in resumed.stdout
    audit.check_finished(out, wanted, ca, before)


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A cluster as a run has it of its own, with a secret in the environment that it starts from."""
    from batch_issuer.cluster.connection import connect

    os.environ["BATCH_ISSUER_HSM_PIN"] = "a secret"
    try:
        with connect(ClusterOptions(), workers=2, scratch=tmp_path_factory.mktemp("dask")) as connected:
            yield connected
    finally:
        assert os.environ.pop("BATCH_ISSUER_HSM_PIN") == "a secret"


def supervised(
    connection: Connection, start: Callable[[], Callable[[int], Any]], tasks: int, told: list[str] | None = None
) -> dict[int, Any]:
    from batch_issuer.cluster.supervisor import ClusterSupervisor

    notify = (lambda _: None) if told is None else told.append
    supervisor: ClusterSupervisor[int, Any] = ClusterSupervisor(
        connection, start, label=lambda task: f"task-{task}", notify=notify
    )
    found = dict(supervisor.run(range(tasks)))
    assert supervisor.ready is not None
    return found


def what_a_worker_is(_: int) -> dict[str, Any]:
    time.sleep(0.05)
    pid = os.getpid()
    return {
        "pid": pid,
        "environment": dict(os.environ),
        "arguments": Path(f"/proc/{pid}/cmdline").read_bytes(),
        "dumpable": os.stat("/proc/self").st_uid,
        "ignored": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "listening": listening(),
    }


def listening() -> set[str]:
    """Local addresses, hex, at which anybody listens who has a socket in this process."""
    own = {
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.lexists(f"/proc/self/fd/{fd}")
    }
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return {fields[1].partition(":")[0] for fields in lines if fields[3] == "0A" and f"socket:[{fields[9]}]" in own}


def start_telling() -> Callable[[int], dict[str, Any]]:
    return what_a_worker_is


def test_workers_of_ones_own_inherit_no_secret_ignore_signals_and_listen_on_loopback(connection: Connection) -> None:
    found = supervised(connection, start_telling, 12)
    assert sorted(found) == list(range(12))
    assert len({one["pid"] for one in found.values()}) == 2
    for one in found.values():
        assert not [name for name in one["environment"] if name.startswith("BATCH_ISSUER_")]
        assert b"secret" not in one["arguments"]
        assert one["ignored"] == [signal.SIG_IGN, signal.SIG_IGN]
        assert one["listening"] == {"0100007F"}


def dies_late_at_three(number: int) -> int:
    if number == 3:
        time.sleep(0.2)
    return always_dies_at_three(number)


def start_dying_late() -> Callable[[int], int]:
    return dies_late_at_three


def test_a_task_that_kills_three_workers_fails_the_run_by_name_and_no_other(connection: Connection) -> None:
    told: list[str] = []
    with pytest.raises(RunFailedError, match=r"^the worker tls://127\.0\.0\.1:[0-9]+ ended at task-3, the third time$"):
        supervised(connection, start_dying_late, 8, told)
    assert [line.partition(" ended at ")[2] for line in told] == ["task-3; what it had is done again"] * 2
    connection.client.wait_for_workers(2, timeout=60)


def test_a_task_that_kills_its_workers_at_once_fails_the_run_when_no_other_is_left(connection: Connection) -> None:
    with pytest.raises(RunFailedError, match=r"ended at .*task-3.*, the third time$"):
        supervised(connection, start_always_dying, 8)
    connection.client.wait_for_workers(2, timeout=60)
    assert supervised(connection, start_answering, 9) == {number: number for number in range(9)}


def start_answering() -> Callable[[int], int]:
    return abs


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (OutputError("no room", hint="make some"), OutputError, "no room"),
        (OSError(28, "No space left on device", "x"), OSError, "[Errno 28] No space left on device: 'x'"),
        (ZeroDivisionError("oh"), RunFailedError, "a worker failed: ZeroDivisionError: oh"),
    ],
)
def test_an_error_of_a_task_is_raised_as_it_is(
    error: Exception, kind: type[Exception], text: str, connection: Connection, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(kind) as raised:
        supervised(connection, partial(start_failing, error), 9)
    assert (type(raised.value), str(raised.value)) == (kind, text)
    assert getattr(raised.value, "hint", None) == getattr(error, "hint", None)
    assert "".join(capfd.readouterr()) == ""


def refuse() -> Callable[[int], int]:
    raise OutputError("not here", hint="elsewhere")


def test_a_worker_that_cannot_start_is_named_before_the_first_task(connection: Connection) -> None:
    with pytest.raises(RefusedError, match=r"^the worker tls://127\.0\.0\.1:[0-9]+ cannot do it: not here$") as raised:
        supervised(connection, refuse, 9)
    assert raised.value.hint == "elsewhere"


def test_a_worker_of_another_version_is_refused(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batch_issuer.cluster.worker.__version__", "99.0")
    with pytest.raises(RefusedError, match=r"cannot do it: batch-issuer [0-9.]+ is installed there, and 99\.0 here$"):
        supervised(connection, start_answering, 9)


def test_what_travels_shows_nothing(pki: Path) -> None:
    from batch_issuer.cluster.worker import envelope_of

    issuer = load_issuer(pki, "local-ca", now=datetime.now(UTC))
    envelope = envelope_of("00" * 8, issuer)  # type: ignore[arg-type]
    values = private_values([(pki / "local-ca.key").read_bytes()])
    assert shows_a_key(envelope.octets, values)
    assert not shows_a_key(repr((envelope, 5)).encode(), values)
    path = PathKey(pki, "local-ca", issuer.certificate)
    assert not shows_a_key(pickle.dumps(path), values)


def test_every_part_made_twice_at_once_is_issued_once(
    pki: Path, ca: x509.Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from batch_issuer.cluster.supervisor import ClusterSupervisor

    twice, again = ClusterSupervisor.run, list[bool]()

    def doubled(self: Any, tasks: Any) -> Iterator[tuple[int, Any]]:
        seen: set[int] = set()
        for task, done in twice(self, [task for task in tasks for _ in range(2)]):
            if task in seen:
                again.append(done.minted)
            else:
                yield task, done
            seen.add(task)

    monkeypatch.setattr(ClusterSupervisor, "run", doubled)
    manifest, out = tmp_path / "devices.parquet", tmp_path / "out"
    wanted = runs.write_manifest(manifest, 2_000)
    asked = RunRequest(
        manifest=manifest,
        pki=pki,
        out=out,
        format="tar",
        workers=2,
        part_size=100,
        hardware_id="hw",
        cluster=ClusterOptions(),
    )
    summary = issue(asked, Silent(), now=datetime.now(UTC))
    assert summary.devices == 2_000
    assert summary.key_engine == choose_engine("auto")  # its workers are this machine's
    assert len(again) == 20
    audit.check_finished(out, wanted, ca, {})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_of_the_whole_group_ends_after_the_current_parts_and_shows_no_key(
    number: signal.Signals, pki: Path, ca: x509.Certificate, tmp_path: Path
) -> None:
    manifest, out = tmp_path / "devices.parquet", tmp_path / "out"
    wanted = runs.write_manifest(manifest, 8_000)
    arguments = runs.issue_arguments(manifest, pki, out, *OWN)
    process = runs.start(arguments)
    assert runs.await_file(out / ".run/commits", process, "*.arrow")
    os.killpg(process.pid, number)
    said, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert f"{number.name}: stopping after the current parts" in told
    assert "hint: the same command with --resume goes on from here" in told
    assert "Traceback" not in told
    assert "distributed" not in told
    before = audit.check_interrupted(out)
    assert 0 < len(before) < len(wanted)
    assert not runs.group_outlives(process.pid)
    values = private_values((pki / f"{name}.key").read_bytes() for name in ("local-ca", "factory_ca"))
    left = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file()).replace(b"PRIVATE KEY", b"")
    assert not shows_a_key((said + told).encode() + left, values)
    resumed = runs.run([*arguments, "--resume", "--engine", "local"])  # on this machine, for once
    assert resumed.returncode == 0, resumed.stderr
    audit.check_finished(out, wanted, ca, before)


def make_tls(folder: Path) -> list[str]:
    """A cluster's CA with a certificate for all of its ends; the options that name them."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "cluster")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    for file in ("ca.pem", "cert.pem"):
        (folder / file).write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    files = {"--tls-ca-file": "ca.pem", "--tls-cert": "cert.pem", "--tls-key": "key.pem"}
    return [text for option, file in files.items() for text in (option, str(folder / file))]


@contextmanager
def standing_cluster(folder: Path) -> Iterator[str]:
    """A cluster that outlives its clients; its scheduler's address."""
    command = [sys.executable, str(HERE / "dask_cluster.py"), str(folder)]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(60)


def test_a_cluster_that_outlives_its_client_and_is_gone_on_with(
    pki: Path, ca: x509.Certificate, tmp_path: Path
) -> None:
    """By TLS, with the key from the workers' own path; they end the parts of the lost client, or never begin them."""
    manifest, out = tmp_path / "devices.parquet", tmp_path / "out"
    wanted = runs.write_manifest(manifest, 6_000)
    tls = make_tls(tmp_path)
    with standing_cluster(tmp_path) as scheduler:
        options = [*FAST, "--engine", "dask", "--scheduler", scheduler, *tls, "--worker-ca", "path", "--resume"]
        arguments = runs.issue_arguments(manifest, pki, out, *options)
        process = runs.start(arguments)
        assert runs.await_file(out / ".run/commits", process, "*.arrow")
        runs.kill_group(process)
        resumed = runs.run(arguments)
        assert resumed.returncode == 0, resumed.stderr
        assert " before, " in resumed.stdout
        audit.check_finished(out, wanted, ca, {})
        (tmp_path / "moved").mkdir()
        refused_by_workers(manifest, pki, tmp_path, options, tls)
    told = (tmp_path / "log").read_bytes()
    assert not shows_a_key(told, private_values([(pki / "local-ca.key").read_bytes()]))


def refused_by_workers(manifest: Path, pki: Path, folder: Path, options: list[str], tls: list[str]) -> None:
    """Before anything is planned: nothing is left."""
    wrong = runs.issue_arguments(manifest, pki, folder / "new", *options, "--worker-ca", "token")
    ended = runs.run(wrong)
    assert (ended.returncode, (folder / "new").exists()) == (2, False)
    assert "--worker-ca token is for a CA with its key in a token, and this one's is a file" in ended.stderr
    hidden = [*runs.issue_arguments(manifest, pki, Path("/proc/self/cwd/hidden"), *options)]
    ended = subprocess.run(hidden, cwd=folder / "moved", capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 2, ended.stderr
    assert "/proc/self/cwd/hidden is not there, or is another folder than this run's" in ended.stderr
    assert list((folder / "moved").iterdir()) == []
    stranger = folder / "stranger"
    stranger.mkdir()
    make_tls(stranger)
    strange = [text.replace(f"{folder}/", f"{stranger}/") if text in tls else text for text in options]
    ended = runs.run(runs.issue_arguments(manifest, pki, folder / "new", *strange))
    assert (ended.returncode, (folder / "new").exists()) == (2, False)
    assert "does not answer" in ended.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"scheduler": "tcp://10.0.0.5:8786"}, "beyond loopback it must be tls://"),
        ({"scheduler": "tcp://dask.example:8786"}, "beyond loopback it must be tls://"),
        ({"scheduler": "tls://10.0.0.5:8786"}, "needs --tls-ca-file, --tls-cert and --tls-key"),
        ({"scheduler": "ucx://10.0.0.5:8786"}, "--scheduler: expected tls://HOST:PORT or tcp://127.0.0.1:PORT, got "),
        ({"tls_key": Path("key")}, "are for --scheduler tls://HOST:PORT"),
    ],
)
def test_a_scheduler_that_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RefusedError) as raised:
        check_options(ClusterOptions(**options))
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:8786", "tcp://127.8.8.8:1", "tcp://[::1]:8786", "tcp://localhost:1"]
)
def test_plain_loopback_is_allowed(address: str) -> None:
    check_options(ClusterOptions(scheduler=address))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--scheduler", "tcp://127.0.0.1:1"], "--scheduler is for --engine dask"),
        (["--worker-ca", "path"], "--worker-ca is for --engine dask"),
        (["--engine", "dask", "--scheduler", "tcp://127.0.0.1:1"], "--scheduler needs --worker-ca"),
        (
            ["--engine", "dask", "--scheduler", "tcp://127.0.0.1:1", "--worker-ca", "channel"],
            "--worker-ca channel sends the CA's key to the workers, and this cluster is not encrypted",
        ),
    ],
)
def test_options_that_contradict_each_other(options: list[str], sentence: str, pki: Path, tmp_path: Path) -> None:
    runs.write_manifest(tmp_path / "devices.parquet", 3)
    ended = runs.run(runs.issue_arguments(tmp_path / "devices.parquet", pki, tmp_path / "out", *options))
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert not (tmp_path / "out").exists()


def test_a_key_by_path_is_that_of_the_run(pki: Path, tmp_path: Path) -> None:
    certificate = load_issuer(pki, "local-ca", now=datetime.now(UTC)).certificate
    assert PathKey(pki, "local-ca", certificate).open()(b"data")
    make_pki(tmp_path / "other")
    with pytest.raises(
        AuthorityError, match=r"^local-ca of the PKI directory .* is another certificate than the run's$"
    ):
        PathKey(tmp_path / "other", "local-ca", certificate).open()


def test_a_key_in_a_token_needs_a_pin_of_the_workers_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BATCH_ISSUER_HSM_PIN", raising=False)
    (tmp_path / "module.so").touch()
    with pytest.raises(AuthorityError, match=r"^the PKCS#11 module .* is not there$"):
        WorkerTokenKey(tmp_path / "none", "acme", "local-ca").open()
    with pytest.raises(AuthorityError, match=r"^the PIN of the token 'acme' is needed, and the worker has none$"):
        WorkerTokenKey(tmp_path / "module.so", "acme", "local-ca").open()
    with pytest.raises(AuthorityError, match=r"^the PIN of the token 'acme' cannot be read from "):
        WorkerTokenKey(tmp_path / "module.so", "acme", "local-ca", tmp_path / "none").open()


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_run_into_a_store_is_not_made_by_a_cluster(more: tuple[str, ...], pki: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "devices.parquet"
    runs.write_manifest(manifest, 10)
    done = runs.run([*runs.issue_arguments(manifest, pki, Path("out"), *OWN), "--out", "s3://nowhere/lot", *more])
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        "error: --engine dask writes into a folder that its workers share, and --out is in an object store\n"
        "hint: take a shared folder, or --engine local\n",
    )
