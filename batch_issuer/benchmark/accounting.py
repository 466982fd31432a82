"""Runs one program and accounts for all of its processes, also those that outlive it.

`python -m batch_issuer.benchmark.accounting REPORT PROGRAM ARGUMENT…` writes one JSON object to the file REPORT.

A run's workers are children of its fork server, and nobody waits for that: it ends by itself after the run. So this
process makes itself the one that orphans fall to (prctl(2), PR_SET_CHILD_SUBREAPER). Waiting for the program gives
the program's own CPU time and memory; waiting for each orphan gives the fork server's with its workers', exactly as
the kernel counted them.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from contextlib import suppress

__all__ = ["main"]

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def main() -> None:
    """Run the program of the command line, wait for all processes, write the report.

    Raises:
        OSError: the program cannot be started, or the kernel has no subreapers.
    """
    report, *command = sys.argv[1:]
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's goes to the program too, and that decides
    began = time.monotonic()
    program = os.posix_spawn(command[0], command, os.environ, setsigdef=[signal.SIGINT])
    signal.signal(signal.SIGTERM, lambda *_: os.kill(program, signal.SIGTERM))
    _, status, own = os.wait4(program, 0)
    seconds = time.monotonic() - began
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    others = []
    with suppress(ChildProcessError):  # none is left
        while True:
            others.append(os.wait4(-1, 0)[2])
    cpu = [usage.ru_utime + usage.ru_stime for usage in (own, *others)]
    values = {
        "exit_code": os.waitstatus_to_exitcode(status),
        "wall_seconds": seconds,
        "parent_cpu_seconds": cpu[0],
        "cpu_seconds": sum(cpu),
        "parent_peak_octets": own.ru_maxrss * 1024,
        "worker_peak_octets": max((usage.ru_maxrss * 1024 for usage in others), default=0),
    }
    with open(report, "w", encoding="utf-8") as file:
        json.dump(values, file)


if __name__ == "__main__":
    main()
