"""Full handshakes per second: `gateway probe` against `gateway serve`, beside `openssl s_time` against the same."""

from __future__ import annotations

import json
import re
import select
import shutil
import subprocess
import sys
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from batch_issuer.benchmark.runs import Run, issued, run_program
from batch_issuer.benchmark.workload import device_uuids
from batch_issuer.errors import RunFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batch_issuer.benchmark.figures import Figures, Round
    from batch_issuer.benchmark.workload import Workload
    from benchmarks.sections import Scale

__all__ = ["PROBE", "S_TIME", "handshake_round", "probed_devices"]

PROBE, S_TIME = "gateway probe", "openssl s_time"
_RATE = "handshakes_per_second"

_SHARE = 50
_S_TIME_SECONDS = 5
_START_SECONDS = 60
_CONNECTIONS = re.compile(r"^([0-9]+) connections in [0-9.]+ real seconds", re.MULTILINE)


def probed_devices(scale: Scale) -> int:
    """How many devices are probed in a round."""
    return max(1, scale.devices // _SHARE)


def handshake_round(workload: Workload, scale: Scale) -> Round:
    """A server that knows no device is probed with all devices of a run; then s_time asks the same server.

    `s_time` makes handshakes alone, one after the other in each of its processes, with one device's certificate; the
    probe has another key and certificate for each, loads them, and makes two requests as well.

    Raises:
        RunFailedError: the server, a run or `openssl` failed.
    """
    workers = scale.workers[-1]
    with (
        issued(workload, Run("parquet", probed_devices(scale), workers)) as (out, _),
        _serving(workload) as gateway,
    ):
        one = {PROBE: _probe(workload, out, gateway), S_TIME: _s_time(workload, out, gateway, workers)}
    one[PROBE]["of_s_time"] = one[PROBE][_RATE] / one[S_TIME][_RATE]
    return one


def _probe(workload: Workload, out: Path, gateway: str) -> Figures:
    figures, output = run_program(workload, "gateway", "probe", str(out), "--gateway", gateway, "--json", "-q")
    report = json.loads(output)
    return figures | {_RATE: report["devices_per_second"], "median_seconds": report["exchange"]["median"]}


def _s_time(workload: Workload, out: Path, gateway: str, processes: int) -> Figures:
    [device] = device_uuids(1, seed=0)
    folder = workload.folder / "device"
    try:
        run_program(workload, "extract", str(out), device.decode(), "--to", str(folder), "-q")
        bundle = folder / device.decode()
        files = {"-cert": "client.pem", "-key": "pkey.pem", "-CAfile": "root.crt"}
        options = [text for option, name in files.items() for text in (option, str(bundle / name))]
        command = ["openssl", "s_time", "-new", "-connect", gateway, "-time", str(_S_TIME_SECONDS), *options]
        began = monotonic()
        counts = _connections([_started(command) for _ in range(processes)])
        return {_RATE: sum(counts) / (monotonic() - began)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _started(command: list[str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        raise RunFailedError(f"openssl cannot be run: {error.strerror}") from None


def _connections(processes: list[subprocess.Popen[str]]) -> list[int]:
    counts = []
    for process in processes:
        with process:
            output, _ = process.communicate()
        found = _CONNECTIONS.search(output)
        if process.returncode != 0 or found is None:
            raise RunFailedError(f"openssl s_time failed: {output.strip().splitlines()[-1:]}")
        counts.append(int(found[1]))
    return counts


@contextmanager
def _serving(workload: Workload) -> Iterator[str]:
    """A `gateway serve` with no device yet, for the workload's PKI; gives the gateway's HOST:PORT."""
    data, token, errors = (workload.folder / name for name in ("gateway-data", "gateway-token", "gateway-errors"))
    token.write_text("benchmark", "ascii")
    options = {"--data": data, "--factory": "bench", "--token-file": token, "--pki": workload.pki}
    arguments = [str(text) for option in options.items() for text in option]
    command = [sys.executable, "-m", "batch_issuer", "gateway", "serve", *arguments]
    command += ["--gateway-port", "0", "--api-port", "0"]
    with (
        errors.open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            yield _announced(process, errors)
        finally:
            process.terminate()
            process.wait()
            shutil.rmtree(data, ignore_errors=True)


def _announced(process: subprocess.Popen[str], errors: Path) -> str:
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    ready, _, _ = select.select([process.stdout], [], [], _START_SECONDS)
    line = process.stdout.readline() if ready else ""
    address: str | None = json.loads(line)["gateway"] if line else None
    if address is None:
        said = errors.read_text("utf-8").strip().splitlines()
        raise RunFailedError(f"`batch-issuer gateway serve` has no gateway: {said[-1] if said else 'it said nothing'}")
    return urlsplit(address).netloc
