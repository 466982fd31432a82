"""The program as a user runs it, in processes of its own: issue and verify, with what they took."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batch_issuer.benchmark.figures import P12, P12_RANDOM
from batch_issuer.bundles.contents import FILE_MODES
from batch_issuer.bundles.recipients import need_age
from batch_issuer.errors import RunFailedError
from batch_issuer.files import sync_filesystem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batch_issuer.benchmark.figures import Figures
    from batch_issuer.benchmark.workload import Workload

__all__ = ["Run", "file_sizes", "issued", "run_program", "verify_figures"]

_ACCOUNTING = "batch_issuer.benchmark.accounting"
_PROGRAM = "batch_issuer"


@dataclass(frozen=True, slots=True)
class Run:
    """How to issue.

    Attributes:
        format: how bundles are stored; of p12 also with what passwords.
        devices: how many.
        workers: processes.
        part_size: devices per part.
        sealed: whether parts are sealed to one recipient.
    """

    format: str
    devices: int
    workers: int
    part_size: int = 5000
    sealed: bool = False


def run_program(workload: Workload, *arguments: str) -> tuple[Figures, str]:
    """Run `batch-issuer` with `arguments`; what it took, and its standard output.

    The figures: `wall_seconds` from its start to its end, interpreter included; `cpu_seconds` of all its processes
    and `parent_cpu_seconds` of the first; `parent_peak_octets`, what that had resident at most, and
    `worker_peak_octets`, the same of the largest other process.

    Raises:
        RunFailedError: it failed.
    """
    report = workload.folder / "report.json"
    command = [sys.executable, "-m", _ACCOUNTING, str(report), sys.executable, "-m", _PROGRAM, *arguments]
    # Compiled modules are kept, as they are wherever the program is installed: otherwise each start compiles it again.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with subprocess.Popen(  # noqa: S603 - this program, by this interpreter
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            output, errors = process.communicate()
        except BaseException:
            process.terminate()  # and with it the program, which then ends its workers
            process.wait()
            raise
    if process.returncode != 0:
        raise RunFailedError(f"the benchmark's accounting failed: {_last_line(errors)}")
    figures: Figures = json.loads(report.read_text("utf-8"))
    if exit_code := figures.pop("exit_code"):
        shown = " ".join(("batch-issuer", *arguments[:1]))
        raise RunFailedError(f"`{shown}` ended with exit code {exit_code:.0f}: {_last_line(errors)}")
    return figures, output


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if not line.startswith("hint:")]
    return lines[-1] if lines else "it said nothing"


@contextmanager
def issued(workload: Workload, run: Run) -> Iterator[tuple[Path, Figures]]:
    """Issue for real; gives the output folder, gone afterwards, and the figures.

    Besides those of `run_program`: `devices_per_second` and `issue_seconds` from the first worker's being ready to the
    last part published, `run_seconds` from reading the manifest to the end, `parent_cpu_share` of all CPU time.

    Raises:
        RunFailedError: it failed.
    """
    out, manifest = workload.folder / "issued", workload.manifest(run.devices)
    _settle(workload.folder)
    options: dict[str, object] = {
        "--manifest": manifest,
        "--pki": workload.pki,
        "--out": out,
        "--format": run.format.split()[0],
        "--workers": run.workers,
        "--part-size": run.part_size,
        "--hardware-id": "bench",
    }
    if run.sealed:
        options["--seal-to"] = _recipient()
    arguments = [str(text) for option in options.items() for text in option]
    if run.format == P12:
        arguments += ["--p12-password-file", str(workload.p12_password())]
    elif run.format == P12_RANDOM:
        arguments.append("--p12-random-passwords")
    try:
        figures, output = run_program(workload, "issue", *arguments, *workload.options, "--json", "-q")
        yield out, figures | _of_summary(json.loads(output)) | _share(figures)
    finally:
        shutil.rmtree(out, ignore_errors=True)


def _recipient() -> str:
    """A recipient whose identity nobody keeps."""
    need_age()
    import pyrage  # noqa: PLC0415 - an extra

    return str(pyrage.x25519.Identity.generate().to_public())


def _of_summary(summary: dict[str, Any]) -> Figures:
    return {
        "devices_per_second": summary["devices"] / summary["issue_seconds"],
        "issue_seconds": summary["issue_seconds"],
        "run_seconds": sum(summary[f"{step}_seconds"] for step in ("plan", "start", "issue", "finish")),
    }


def _share(figures: Figures) -> Figures:
    return {"parent_cpu_share": figures["parent_cpu_seconds"] / figures["cpu_seconds"]}


def _settle(folder: Path) -> None:
    """Write out what earlier measurements left in memory: it would be charged to the next one."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync_filesystem(descriptor)
    finally:
        os.close(descriptor)


def verify_figures(workload: Workload, out: Path, workers: int) -> Figures:
    """Verify a run's output; `devices_per_second` over the verification's own time.

    Raises:
        RunFailedError: it failed, or found something.
    """
    figures, output = run_program(
        workload, "verify", str(out), "--pki", str(workload.pki), "--workers", str(workers), "--json", "-q"
    )
    report = json.loads(output)
    own: Figures = {
        "devices_per_second": report["devices"] / report["seconds"],
        "verify_seconds": report["seconds"],
    }
    return figures | own | _share(figures)


def file_sizes(workload: Workload) -> dict[str, int]:
    """The octets of each file of a device, by name, in the order of writing, as the program really writes them.

    Raises:
        RunFailedError: issuing failed.
    """
    with issued(workload, Run("dir", devices=1, workers=1)) as (out, _):
        [device] = (out / "bundles").iterdir()
        return {name: (device / name).stat().st_size for name in FILE_MODES}
