"""A small run with a fault at each of its file operations, or between its kill and its resume; prints one line of JSON.

Usage: fault_matrix.py KIND FORMAT PKI FOLDER STEP [FLAW]. KIND is what a call fails with (ENOSPC, EROFS: and all that
write from then on; EIO, EMFILE: once), `damage` (files of a killed run are changed), or `clock` (it jumps between kill
and resume). Every STEP-th place is taken. FLAW seeds a mistake, to show that the audit bites: one of `FLAWS`.
A process of its own, as `crash_matrix.py`, whose run this is.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import uuid
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import audit
import pyarrow as pa
from crash_matrix import DEVICES, Silent, in_child, killed_run, request
from cryptography import x509
from faults import FileOperations, run_inline
from small_runs import changed

from batch_issuer.batch.run import issue
from batch_issuer.errors import BatchIssuerError
from batch_issuer.output.record import RunRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batch_issuer.batch.request import RunRequest

LASTING = ("ENOSPC", "EROFS")
FITTING = {"EMFILE": ("open",), "ENOSPC": ("open", "write", "mkdir", "link", "rename", "fsync", "syncfs")}
JUMPS = (timedelta(hours=-1), timedelta(days=-400), timedelta(days=1), timedelta(days=8000))


class FailingOperations(FileOperations):
    """A call fails; and no file whose fsync failed may be synced again."""

    def __init__(self, root: Path, *, at: int, kind: str, notes: Path) -> None:
        super().__init__(root)
        self._place, self._kind, self._notes = at, kind, notes
        self._failed: set[str] = set()

    def _note(self, name: str, paths: tuple[str, ...]) -> None:
        place = len(self.seen)
        super()._note(name, paths)
        if name == "fsync" and paths[0] in self._failed:
            (self._notes / "retried").touch()
        due = place >= self._place and (self._kind in LASTING or not self._failed)
        if due and name in FITTING.get(self._kind, (name,)):
            (self._notes / "injected").touch()
            self._failed.add(paths[0] if name == "fsync" else "")
            number = getattr(errno, self._kind)
            raise OSError(number, os.strerror(number), paths[0])


def go_on(asked: RunRequest, now: datetime | None = None) -> bool:
    """Whether a run comes to its end; one that does not has to say so in a sentence."""
    try:
        issue(asked, Silent(), now=now or datetime.now(UTC))
    except (BatchIssuerError, OSError) as error:
        told = str(error)
    else:
        return True
    assert len(told.splitlines()) == 1, told
    return False


def finish(asked: RunRequest, wanted: list[str], ca: x509.Certificate, before: dict[str, str]) -> None:
    assert go_on(asked), "the resumed run failed"
    audit.check_finished(asked.out, wanted, ca, before)
    stored = audit.visible(asked.out, {}).values()
    assert len({one.certificate.not_valid_before_utc for one in stored}) == 1, "the run has more than one window"


# Calls that fail


def failing_cases(kind: str, asked: RunRequest, wanted: list[str], ca: x509.Certificate, step: int) -> Iterator[Any]:
    for at in range(0, 100_000, step):
        base = asked.out.parent / f"{at}"
        base.mkdir()
        one = changed(asked, out=base / "out")

        def fail(one: RunRequest = one, base: Path = base, at: int = at) -> None:
            FailingOperations(base / "out", at=at, kind=kind, notes=base).install()
            if "retry" in sys.argv:
                retry_fsync()
            go_on(one)

        def check(one: RunRequest = one, base: Path = base) -> None:
            assert not (base / "retried").exists(), "a failed fsync was tried again"
            before = audit.check_interrupted(one.out) if one.out.exists() else {}
            finish(one, wanted, ca, before)

        code = in_child(fail)
        if not (base / "injected").exists():
            return
        yield f"{kind} at {at}", (lambda: sys.exit("no sentence")) if code else check
        shutil.rmtree(base)


def retry_fsync() -> None:
    fsync = os.fsync

    def again(fd: Any) -> None:
        try:
            fsync(fd)
        except OSError:
            fsync(fd)

    os.fsync = again


# A killed run whose files change, and whose clock jumps


def killed(asked: RunRequest, step: int) -> Iterator[tuple[int, RunRequest]]:
    """Runs killed at their operations, of which at least `run.json` is there."""
    for at in range(step, 100_000, step):
        base = asked.out.parent / f"{at}"
        base.mkdir()
        one = changed(asked, out=base / "out")
        if in_child(partial(killed_run, one, at)) == 0:
            return
        if (one.out / "run.json").exists():
            yield at, one
        shutil.rmtree(base)


def clock_cases(asked: RunRequest, wanted: list[str], ca: x509.Certificate, step: int) -> Iterator[Any]:
    for at, one in killed(asked, step):
        for jump in JUMPS:
            copy = changed(one, out=one.out.with_name(f"jump-{jump.total_seconds():.0f}"))
            shutil.copytree(one.out, copy.out)

            def check(copy: RunRequest = copy, jump: timedelta = jump) -> None:
                before = audit.check_interrupted(copy.out)
                there = datetime.now(UTC) + jump
                if "window" in sys.argv:
                    setattr(RunRecord, "starts", property(lambda _: there.replace(microsecond=0)))  # noqa: B010
                go_on(copy, there)
                finish(copy, wanted, ca, before)

            yield f"{jump} at {at}", check


def damages(octets: bytes, random: Random) -> Iterator[bytes | None]:
    """A file's content after an accident; None for a file that is gone."""
    yield None
    yield b""
    yield octets[: len(octets) // 2]
    yield octets[:-1]
    yield octets + b"\0"
    yield bytes(len(octets))
    for _ in range(4):
        place = random.randrange(len(octets))
        yield octets[:place] + bytes([octets[place] ^ 1 << random.randrange(8)]) + octets[place + 1 :]


def damage_cases(asked: RunRequest, wanted: list[str], ca: x509.Certificate, step: int) -> Iterator[Any]:
    random = Random(3)
    for at, one in killed(asked, step):
        names = [path.relative_to(one.out) for path in sorted(one.out.rglob("*")) if path.is_file()]
        for name in random.sample(names, min(len(names), 3)):
            for place, octets in enumerate(damages((one.out / name).read_bytes() or b"-", random)):
                copy = changed(one, out=one.out.with_name(f"{name.name}-{place}"))
                shutil.rmtree(copy.out, ignore_errors=True)
                shutil.copytree(one.out, copy.out)
                if octets is None:
                    (copy.out / name).unlink()
                else:
                    (copy.out / name).write_bytes(octets)
                yield f"{name} changed ({place}) at {at}", partial(check_damaged, one, copy, wanted, ca)


def check_damaged(intact: RunRequest, copy: RunRequest, wanted: list[str], ca: x509.Certificate) -> None:
    """Refused with nothing published changed; or finished, and right; or finished, and `verify` says what is not."""
    before = audit.check_interrupted(intact.out)
    bundles = octets_below(copy.out / "bundles")
    if "forget" in sys.argv:
        forget_unreadable_commits(copy.out)
    if not go_on(copy):
        now = octets_below(copy.out / "bundles")
        assert bundles.items() <= now.items(), "a refused resume changed what was published"
        return
    try:
        audit.check_finished(copy.out, wanted, ca, before)
    except Exception:
        from judges import run

        assert run("verify", copy.out, "--pki", copy.pki, "--workers", "1").code == 4, "undetected"


def forget_unreadable_commits(out: Path) -> None:
    for path in (out / ".run/commits").glob("*"):
        try:
            pa.ipc.open_file(path.read_bytes()).read_all()
        except (pa.ArrowException, OSError):
            path.unlink()


def octets_below(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FLAWS = ("retry", "window", "forget")
CASES: dict[str, Callable[..., Iterator[Any]]] = {"damage": damage_cases, "clock": clock_cases}


def main() -> None:
    kind, bundle_format, pki, folder, step = sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), sys.argv[5]
    run_inline()
    random = Random(6)
    wanted = [str(uuid.UUID(int=random.getrandbits(128), version=4)) for _ in range(DEVICES)]
    (folder / "devices.csv").write_text("device_uuid\n" + "\n".join(wanted) + "\n")
    ca = x509.load_pem_x509_certificate((pki / "local-ca.pem").read_bytes())
    asked = changed(request(bundle_format, pki, folder, folder / "out"), ledger=None)
    make = CASES.get(kind, partial(failing_cases, kind))
    faults, failures = 0, []
    for name, check in make(asked, wanted, ca, int(step)):
        faults += 1
        if in_child(check) != 0:
            print(name, file=sys.stderr, flush=True)
            failures.append(name)
    print(json.dumps({"faults": faults, "rows": faults * DEVICES, "failures": failures}))


if __name__ == "__main__":
    main()
