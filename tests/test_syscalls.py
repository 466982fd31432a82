"""SIGKILL at every system call of a small run that changes a file, whoever makes it: Python, Arrow, SQLite, OpenSSL.

`strace` delivers it, to each process at its own Nth call of a kind: a worker dies there, the one that replaces it dies
there, or the parent does. The other matrices kill before each file operation of the program's own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

import audit
import pytest
import runs
from chaos import LONG, tell
from cryptography import x509
from pki import make_pki

if TYPE_CHECKING:
    from pathlib import Path

CALLS = (
    *("mkdir", "mkdirat", "rmdir", "link", "linkat", "unlink", "unlinkat", "rename", "renameat", "renameat2"),
    *("write", "pwrite64", "writev", "ftruncate", "chmod", "fchmod", "fsync", "fdatasync", "syncfs", "flock", "openat"),
)
CALL = re.compile(r"^(\d+) +(\w+)\((.*)$", re.MULTILINE)
DELIVERED = "+++ killed by SIGKILL +++"
DEVICES = 7
STEP = 1 if LONG else 14

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace delivers the kills")


def under_strace(arguments: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    traced = ["strace", "--follow-forks", "--quiet=attach,personality", *options]
    ended = subprocess.run([*traced, *arguments], capture_output=True, text=True, check=False, timeout=120)
    if "PTRACE" in ended.stderr:
        pytest.skip("processes cannot be traced here")
    return ended


def instants(arguments: list[str], folder: Path) -> list[tuple[str, int]]:
    """Every call that changes a file: its name, and its number among those of its name of the process that makes it."""
    trace = folder / "trace"
    ended = under_strace(arguments, f"--output={trace}", f"--trace={','.join(f'?{name}' for name in CALLS)}")
    assert ended.returncode == 0, ended.stderr
    counts, found = Counter[tuple[str, str]](), set()
    for process, name, told in CALL.findall(trace.read_text()):
        counts[process, name] += 1
        if name != "openat" or "O_CREAT" in told:
            found.add((name, counts[process, name]))
    return sorted(found)


def test_killed_at_every_system_call(tmp_path: Path) -> None:
    pki, manifest, ledger = tmp_path / "pki", tmp_path / "devices.parquet", tmp_path / "ledger"
    pki.mkdir()
    make_pki(pki)
    ca = x509.load_pem_x509_certificate((pki / "local-ca.pem").read_bytes())
    wanted = runs.write_manifest(manifest, DEVICES)

    def arguments(name: str) -> list[str]:
        options = ["--format", "tar", "--part-size", "3", "--workers", "1", "--no-lint", "--quiet", "--resume"]
        return [*runs.issue_arguments(manifest, pki, tmp_path / name, *options), "--ledger", str(ledger / name)]

    ledger.mkdir()
    every = instants(arguments("whole"), tmp_path)
    assert {"fsync", "link", "openat", "rename", "write"} <= {name for name, _ in every}
    chosen = every[::STEP]
    delivered = 0
    for name, number in chosen:
        out = tmp_path / f"{name}-{number}"
        inject = f"--inject=?{name}:signal=KILL:when={number}"
        under_strace(arguments(out.name), f"--output={tmp_path / 'trace'}", f"--trace=?{name}", inject)
        delivered += DELIVERED in (tmp_path / "trace").read_text()
        before = audit.check_interrupted(out) if out.exists() else {}
        again = runs.run(arguments(out.name))
        assert again.returncode == 0, f"{name} {number}: {again.stderr}"
        audit.check_finished(out, wanted, ca, before)
        audit.check_ledger(out, ledger / out.name)
    # Now and then a run makes a call less than the one that was counted.
    assert delivered > 0.9 * len(chosen)
    tell("kill -9 at every system call, tar", delivered, len(chosen) * DEVICES)
