"""What a figure was measured on: without it, no figure means anything."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeAlias

import cryptography
import pyarrow as pa
from cryptography.hazmat.backends.openssl.backend import backend

from batch_issuer import __version__
from batch_issuer.processes import available_cores

__all__ = ["Machine", "describe_machine", "file_system_type"]

Machine: TypeAlias = dict[str, str | int]
"""By what it says: `cpu`, `cores`, `file_system`, `python`, …"""


def describe_machine(folder: Path) -> Machine:
    """Cores, versions, and the file system of `folder`."""
    return {
        "cpu": _cpu_model(),
        "cores": available_cores(),
        "kernel": platform.release(),
        "file_system": file_system_type(folder),
        "python": platform.python_version(),
        "cryptography": cryptography.__version__,
        "openssl": backend.openssl_version_text().removeprefix("OpenSSL ").split(" ")[0],
        "pyarrow": pa.__version__,
        "numpy": _version("numpy"),
        "awscrt": _version("awscrt"),
        "batch_issuer": __version__,
    }


def _version(package: str) -> str:
    """What is not needed and makes a difference: Arrow imports numpy where it is, a tenth of a second at each start."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def file_system_type(folder: Path) -> str:
    """The type of the file system that holds `folder`, such as `tmpfs` or `ext4`."""
    device = os.stat(folder).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8").splitlines()
    except OSError:
        return "unknown"
    for line in lines:  # proc(5): id, parent, major:minor, root, mount point, options, … - type source options
        mount, _, file_system = line.partition(" - ")
        if mount.split(" ")[2] == wanted:
            return file_system.split(" ")[0]
    return "unknown"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
