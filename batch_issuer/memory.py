"""How much memory this process may use, and a bound on what one call into a library may ask for."""

from __future__ import annotations

import os
import resource
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["MOST_PER_CALL", "bounded_memory", "each_bounded", "memory_of_this_process"]

_Item = TypeVar("_Item")

MOST_PER_CALL = 1_500_000_000
"""Octets that one call may add: many times what a good table needs, little beside what a forged one can ask for."""

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_STATUS = "/proc/self/statm"


def memory_of_this_process() -> int:
    """The octets of memory that this process may use: the machine's, or fewer if a limit says so."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if address_space != resource.RLIM_INFINITY:
        limits.append(address_space)
    for path in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # there is none, or it is "max"
            limits.append(int(Path(path).read_text()))
    return min(limits)


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Within this, the process grows by `MOST_PER_CALL` at most, or by half the memory that there is.

    A Parquet file of 150 octets can ask for gigabytes, and Arrow has no bound of its own (apache/arrow issue 49955).
    The kernel refuses what is more, and Arrow raises a MemoryError. A process that is started meanwhile would keep the
    bound, so none may be. It costs some microseconds.
    """
    # proc_pid_statm(5): the first number is the size of the address space in pages, which is what the limit is about.
    used = int(Path(_STATUS).read_bytes().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = used + min(MOST_PER_CALL, memory_of_this_process() // 2)
    if soft != resource.RLIM_INFINITY:
        wanted = min(wanted, soft)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def each_bounded(items: Iterable[_Item]) -> Iterator[_Item]:
    """The items, each made within `bounded_memory`; what is done with them is not."""
    iterator = iter(items)
    while True:
        with bounded_memory():
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item
