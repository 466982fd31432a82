"""README and tutorial, as a newcomer types them: every command, in its order, in one shell, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README, TUTORIAL = ROOT / "README.md", ROOT / "docs" / "tutorial.md"
TYPED = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHOWN_TO_FAIL = {"Killed": 137, "1 finding": 4}
"""What a page shows after a command that may fail, and its exit code."""


def typed(page: Path) -> list[str]:
    """What is to be typed, line by line; where a page shows a failure, the shell is to go on after just that."""
    lines = []
    for block in BLOCK.findall(page.read_text().replace("\\\n", "")):
        for line, answer in TYPED.findall(block):
            codes = [code for shown, code in SHOWN_TO_FAIL.items() if shown in answer]
            lines.append(line + "".join(f" || [ $? -eq {code} ]" for code in codes))
    return lines


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
        timeout=300,
        stdin=subprocess.DEVNULL,
    )


def test_every_command_of_the_tutorial_works_as_written(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    ended = run(typed(TUTORIAL), tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said = ended.stdout
    assert "10 devices of 10 rows would be issued by local-ca of acme" in said
    assert "the run is finished already: nothing to do" in said + ended.stderr
    assert "10 of 10 devices in 1 of 1 part verified" in said
    assert re.search("^issued/bundles/.*/client.pem: OK$", said, re.MULTILINE)
    assert re.search("^10 of 10 devices probed at .*: nothing is wrong$", said, re.MULTILINE)
    assert "1 bundle extracted to ready" in said
    assert {"client.pem", "pkey.pem", "root.crt", "sota.toml"} <= set(said.split())


def test_every_command_of_the_readme_works_as_written(tmp_path: Path) -> None:
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    ended = run(typed(README), tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said = ended.stdout
    assert "250 devices of 250 rows would be issued by local-ca of acme" in said
    assert "250 of 250 devices in 1 of 1 part verified" in said
    assert "client.pem: OK" in said
    # What openssl says of it is on the page, but for the spaces of its versions.
    shown = re.findall("^(?:subject=|issuer=|X509v3 |    TLS Web ).*$", README.read_text(), re.MULTILINE)
    assert len(shown) == 5
    assert [line for line in shown if line.replace(" ", "") not in said.replace(" ", "")] == []
    assert re.search("^200,000 of 200,000 devices in 40 of 40 parts .*: nothing is wrong$", said, re.MULTILINE)


def test_a_command_that_fails_is_noticed(tmp_path: Path) -> None:
    lines = [line.replace("--pki pki", "--pki elsewhere") for line in typed(TUTORIAL)]
    assert run(lines, tmp_path).returncode == 2


def test_a_failure_that_is_shown_is_one_of_its_kind(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for code, last in ((4, 0), (3, 1)):
        page.write_text(f"```console\n$ sh -c 'exit {code}'\n8 of 9: 1 finding\n$ echo on\non\n```\n")
        ended = run(typed(page), tmp_path)
        assert (ended.returncode, ended.stdout) == (last, "on\n" * (not last))
