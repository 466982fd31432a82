"""A part that is made twice at once: one attempt is committed, whole, and nothing of the other is left."""

from __future__ import annotations

import errno
import gc
import os
import threading
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import audit
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from crash_matrix import Silent
from cryptography import x509
from small_runs import changed

from batch_issuer import files
from batch_issuer.authority.issuer import load_issuer
from batch_issuer.batch import engines as engines_module
from batch_issuer.batch import folder_home as home_module
from batch_issuer.batch import run as run_module
from batch_issuer.batch.attempts import sweep_attempts
from batch_issuer.batch.claim import Claim, working
from batch_issuer.batch.folder_home import FolderHome
from batch_issuer.batch.part import PartDone, PartWork, PartWorker
from batch_issuer.bundles.format import bundle_format as bundle_format_named
from batch_issuer.errors import BundleError, OutputError, RunFailedError
from batch_issuer.files import replace_file, write_first
from batch_issuer.output.folder import OutputFolder
from batch_issuer.output.record import read_record
from batch_issuer.output.rows import read_commit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from batch_issuer.batch.request import RunRequest

FORMATS = ("dir", "tar", "tar.zst", "parquet")


class StoppedError(Exception):
    """Ends a run just before its parts."""


@contextmanager
def planned(asked: RunRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], PartWorker]]:
    """Plan the run, and no more; gives what starts a worker of it."""

    def stop(*_: object, **__: object) -> None:
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(engines_module, "Supervisor", stop)
        with pytest.raises(StoppedError):
            run_module.issue(asked, Silent(), now=datetime.now(UTC))
    folder = OutputFolder(asked.out)
    issuer = load_issuer(asked.pki, asked.ca_name, now=datetime.now(UTC))
    work = PartWork(FolderHome(folder), read_record(folder.record), issuer, resumed=True, engine="openssl")
    with ExitStack() as opened:
        yield lambda: opened.enter_context(PartWorker(work))
    gc.unfreeze()


def finish(asked: RunRequest, before: dict[str, str]) -> None:
    wanted = pq.read_table(asked.manifest)["device_uuid"].to_pylist()
    run_module.issue(asked, Silent(), now=datetime.now(UTC))
    ca = x509.load_pem_x509_certificate((asked.pki / "local-ca.pem").read_bytes())
    audit.check_finished(asked.out, wanted, ca, before)


@contextmanager
def together(monkeypatch: pytest.MonkeyPatch, name: str, parties: int) -> Iterator[None]:
    """So many threads come to the function `name` of the folder's module before one of them goes on."""
    barrier, real = threading.Barrier(parties), vars(home_module)[name]

    def meet(*arguments: Any, **options: Any) -> Any:
        barrier.wait(60)
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(home_module, name, meet)
        yield


def at_once(worker: Callable[[], PartWorker], index: int, count: int) -> list[PartDone]:
    """So many workers make one part; what each of them says."""
    done: list[PartDone] = []
    makes = [worker().make for _ in range(count)]
    threads = [threading.Thread(target=lambda make=make: done.append(make(index))) for make in makes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return done


@pytest.mark.parametrize("bundle_format", FORMATS)
def test_a_part_made_three_times_at_once_is_committed_once(
    bundle_format: str, asked: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = changed(asked, format=bundle_format)
    with planned(asked, monkeypatch) as worker, together(monkeypatch, "write_first", 3):
        done = at_once(worker, 1, 3)
    assert sorted(one.minted for one in done) == [False, False, True]
    assert [one.devices for one in done] == [3, 3, 3]
    before = audit.check_interrupted(asked.out)
    assert len(audit.visible(asked.out, {})) == len(before) == 3
    assert list((asked.out / ".run/staging").iterdir()) == []
    finish(asked, before)


@pytest.mark.parametrize("bundle_format", FORMATS)
def test_a_commit_that_replaces_another_is_found(
    bundle_format: str, asked: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The must-fail twin: renamed over each other, as one process alone may do it, the last attempt's record wins."""

    def last_wins(path: Path, chunks: Any, mode: int, *, temporary: Path) -> bool:
        replace_file(path, chunks, mode, scratch=temporary.parent)
        return True

    asked, before = changed(asked, format=bundle_format), dict[str, str]()
    with planned(asked, monkeypatch) as worker:

        def another_first(*arguments: Any, **options: Any) -> bool:
            monkeypatch.setattr(home_module, "write_first", last_wins)
            worker().make(1)
            return last_wins(*arguments, **options)

        monkeypatch.setattr(home_module, "write_first", another_first)
        with suppress(BundleError):
            worker().make(1)
    assert audit.committed(asked.out) != before, "issued again with another certificate"


@pytest.mark.parametrize("bundle_format", FORMATS)
def test_a_part_published_by_four_at_once_is_published_once(
    bundle_format: str, asked: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = changed(asked, format=bundle_format)
    with planned(asked, monkeypatch) as worker:
        with monkeypatch.context() as patch:  # committed, and killed before it is published
            patch.setattr(type(bundle_format_named(bundle_format)), "publish", stop_here)
            with pytest.raises(StoppedError):
                worker().make(0)
        before = audit.check_interrupted(asked.out)
        assert (len(before), audit.visible(asked.out, {})) == (3, {})
        with together(monkeypatch, "read_commit", 4):
            done = at_once(worker, 0, 4)
    assert [one.minted for one in done] == [False] * 4
    assert set(audit.visible(asked.out, {})) == set(before)
    assert list((asked.out / ".run/staging").iterdir()) == []
    finish(asked, before)


def stop_here(*_: object) -> None:
    raise StoppedError


def test_an_attempt_that_was_swept_cannot_be_committed(asked: RunRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers' lock keeps a sweep from attempts at work; without it, the record has no place to come from."""

    def swept_before(*arguments: Any, **options: Any) -> bool:
        sweep_attempts(OutputFolder(asked.out))
        return write_first(*arguments, **options)

    with planned(asked, monkeypatch) as worker:
        with monkeypatch.context() as patch:
            patch.setattr(home_module, "write_first", swept_before)
            with pytest.raises(FileNotFoundError):
                worker().make(0)
    assert audit.check_interrupted(asked.out) == {}
    finish(asked, {})


def test_a_sweep_waits_for_who_is_at_a_part_and_not_for_who_is_idle(
    asked: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batch_issuer.batch.claim._WAIT_SECONDS", 0)
    folder, told = OutputFolder(asked.out), list[str]()
    with planned(asked, monkeypatch) as worker:
        worker().make(0)  # and is idle from now on
        with Claim(folder, resume=True, notify=told.append) as claim:
            with claim.alone():
                pass
            with working(folder), pytest.raises(OutputError, match=r"^workers of an earlier run still write to "):
                claim.alone().__enter__()
    assert told == []


def test_who_outlives_a_finished_run_makes_nothing_more(asked: RunRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    with planned(asked, monkeypatch) as worker:
        make = worker().make
        finish(asked, {})
        before = sorted(asked.out.rglob("*"))
        with pytest.raises(RunFailedError, match=r"^the run in .* is over, or is not to be seen from here"):
            make(0)
        assert sorted(asked.out.rglob("*")) == before


def test_a_commit_record_without_an_attempt_is_damaged(asked: RunRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    with planned(asked, monkeypatch) as worker:
        worker().make(0)
    path = asked.out / ".run/commits/part-00000.arrow"
    assert len(read_commit(path).attempt) == 8
    table = pa.ipc.open_file(path.read_bytes()).read_all()
    for metadata in (None, {"batch_issuer.attempt": "../../x"}, {"batch_issuer.attempt": b"\xff" * 8}):
        changed_table = table.replace_schema_metadata(metadata)
        with path.open("wb") as sink, pa.ipc.new_file(sink, changed_table.schema) as writer:
            writer.write_table(changed_table)
        with pytest.raises(OutputError, match=r"^the commit record part-00000\.arrow is damaged: "):
            read_commit(path)


def no_links(*_: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("links", [True, False], ids=["link", "rename"])
def test_the_first_to_write_a_name_has_it(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With link(2), and with renameat2(2) where the file system has no links."""
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "record"
    assert write_first(path, [b"one"], 0o600, temporary=tmp_path / "a") is True
    assert write_first(path, [b"two"], 0o600, temporary=tmp_path / "b") is False
    assert (path.read_bytes(), sorted(tmp_path.iterdir())) == (b"one", [path])
    assert path.stat().st_nlink == 1


def test_a_file_system_that_can_do_neither_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(files, "_RENAME_NOREPLACE", 1 << 30)  # EINVAL, as of a kernel or file system without it
    with pytest.raises(OSError, match="the file system can neither link nor rename without replacing") as raised:
        write_first(tmp_path / "record", [b"one"], 0o600, temporary=tmp_path / "a")
    assert raised.value.errno == errno.EOPNOTSUPP
    assert not (tmp_path / "record").exists()


def test_a_link_whose_answer_was_lost_is_known_as_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system asks again, and is told of its own first request."""
    real = os.link

    def lost(*names: Any) -> None:
        real(*names)
        real(*names)

    monkeypatch.setattr(os, "link", lost)
    assert write_first(tmp_path / "record", [b"one"], 0o600, temporary=tmp_path / "a") is True
