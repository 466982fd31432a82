"""Keys and other secrets in this process's memory stay there."""

from __future__ import annotations

import ctypes
import resource

__all__ = ["forbid_core_dumps"]

_PR_SET_DUMPABLE = 4  # linux/prctl.h


def forbid_core_dumps() -> None:
    """From now on no key of this process can end in a core dump, and its environment is not this user's to read.

    The limit is not asked when cores go to a program (core(5)), so the kernel is told, too, not to dump this process
    (prctl(2), PR_SET_DUMPABLE), which also keeps other processes of this user from its memory and its /proc files.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
