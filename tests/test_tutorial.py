"""The tutorial, as a newcomer types it: every command, in its order, in one shell, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial.md"
TYPED = re.compile(r"^\$ (.*)$", re.MULTILINE)
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


def typed() -> list[str]:
    """What is to be typed, line by line."""
    return [line for block in BLOCK.findall(TUTORIAL.read_text()) for line in TYPED.findall(block)]


def run(lines: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Type them into a shell that ends at the first that fails, and takes what it began in the background with it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BATCH_ISSUER_")}
    environment["PATH"] = f"{sysconfig.get_path('scripts')}:{environment['PATH']}"
    script = "\n".join(["set -eum", "trap 'kill $(jobs -p) 2> /dev/null || true' EXIT", *lines])
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


def test_every_command_works_as_written(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    ended = run(typed(), tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said = ended.stdout
    assert "10 devices of 10 rows would be issued by local-ca of acme" in said
    assert "the run is finished already: nothing to do" in said + ended.stderr
    assert "10 of 10 devices in 1 of 1 part verified" in said
    assert re.search("^issued/bundles/.*/client.pem: OK$", said, re.MULTILINE)
    assert re.search("^10 of 10 devices probed at .*: nothing is wrong$", said, re.MULTILINE)
    assert "1 bundle extracted to ready" in said
    assert {"client.pem", "pkey.pem", "root.crt", "sota.toml"} <= set(said.split())


def test_a_command_that_fails_is_noticed(tmp_path: Path) -> None:
    lines = [line.replace("--pki pki", "--pki elsewhere") for line in typed()]
    assert run(lines, tmp_path).returncode == 2
