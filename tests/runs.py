"""Real runs of the real program, in processes of their own, for tests that kill them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = [sys.executable, "-m", "batch_issuer"]


def write_manifest(path: Path, devices: int, seed: int = 1) -> list[str]:
    """A Parquet manifest of so many devices; returns their UUIDs."""
    random = Random(seed)
    uuids = [str(uuid.UUID(int=random.getrandbits(128), version=4)) for _ in range(devices)]
    pq.write_table(pa.table({"device_uuid": uuids, "name": [f"device-{i}" for i in range(devices)]}), path)
    return uuids


def issue_arguments(manifest: Path, pki: Path, out: Path, *more: str) -> list[str]:
    """The command line of a run."""
    arguments = ["issue", "--manifest", str(manifest), "--pki", str(pki), "--out", str(out)]
    return [*PROGRAM, *arguments, "--hardware-id", "hw", *more]


def format_options(name: str) -> list[str]:
    """The options for a format; `p12-random` is p12 with a password made for each device."""
    return ["--format", "p12", "--p12-random-passwords"] if name == "p12-random" else ["--format", name]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """Start it as the leader of a process group of its own."""
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(arguments, stdin=null, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(arguments, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=120)


def kill_group(process: subprocess.Popen[str]) -> None:
    """SIGKILL everything that belongs to it, at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    group_outlives(process.pid)


def group_outlives(group: int) -> bool:
    """Whether any process of a group whose first has ended still runs, though it had time to notice."""
    deadline = time.monotonic() + 10
    while alive := any(True for _ in members(group)):
        if time.monotonic() > deadline:
            break
        time.sleep(0.005)
    return alive


def members(group: int) -> Iterator[int]:
    """The living processes of a group."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                yield int(entry.name)


def workers(process: subprocess.Popen[str], out: Path) -> list[int]:
    """The worker processes of a run: those that hold its workers' lock."""
    try:
        inode = os.stat(out / ".run/workers.lock").st_ino
    except OSError:
        return []
    # proc(5): number, kind, ADVISORY, access, pid, major:minor:inode, ...; everybody may read it, unlike /proc/PID/fd.
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    holders = {int(fields[4]) for fields in locks if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}")}
    return sorted(holders & set(members(process.pid)) - {process.pid})


def await_file(path: Path, process: subprocess.Popen[str], pattern: str = "") -> bool:
    """Wait until a path (or something that matches in it) is there; False when the process ended before."""
    while process.poll() is None:
        if any(path.glob(pattern)) if pattern else path.exists():
            return True
        time.sleep(0.002)
    return False
