"""The shell's side: completion by click's protocol, without anything heavy, and the man page."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import click
import pytest
from test_imports import HEAVY

from batch_issuer.cli import cli

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # docs is not installed; last, so that the package that is tested is found first

from docs.make_man_page import PAGE, man_page  # noqa: E402

BIN = Path(sysconfig.get_path("scripts"))


def completed(words: str, variable: str = "bash_complete") -> list[str]:
    """What the program offers for the last of the words, which may be the beginning of one or empty."""
    place = str(words.count(" "))
    environment = os.environ | {"_BATCH_ISSUER_COMPLETE": variable, "COMP_WORDS": words, "COMP_CWORD": place}
    command = [BIN / "batch-issuer"]
    said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return [line for line in said.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("batch-issuer ver", ["plain,verify"]),
        ("batch-issuer ca r", ["plain,revoke-device-ca", "plain,rotate-tls"]),
        ("batch-issuer issue --plan", ["plain,--plan-memory"]),
        ("batch-issuer issue --format p", ["plain,parquet", "plain,p12"]),
        (
            "batch-issuer export out --for ",
            ["plain,aws", "plain,nrfcloud", "plain,rainmaker", "plain,azure", "plain,csv"],
        ),
        ("batch-issuer issue --manifest ", ["file,"]),
        ("batch-issuer issue --pki ", ["dir,"]),
        ("batch-issuer verify ", ["dir,"]),
        ("batch-issuer nothing-such", []),
    ],
)
def test_commands_options_values_and_folders_complete(words: str, offered: list[str]) -> None:
    assert completed(words) == offered


def test_every_command_completes() -> None:
    assert completed("batch-issuer ") == [f"plain,{name}" for name in sorted(cli.commands)]


def test_completion_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom batch_issuer.cli import main\ntry:\n    main()\nfinally:\n"
        "    print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    environment = os.environ | {
        "_BATCH_ISSUER_COMPLETE": "bash_complete",
        "COMP_WORDS": "batch-issuer issue --format ",
        "COMP_CWORD": "3",
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False, capture_output=True, text=True)
    assert done.stdout.splitlines()[0] == "plain,dir", done.stderr
    assert HEAVY & set(done.stderr.split()) == {"click"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_takes_the_script(shell: str, tmp_path: Path) -> None:
    environment = os.environ | {"_BATCH_ISSUER_COMPLETE": f"{shell}_source"}
    script = subprocess.run([BIN / "batch-issuer"], env=environment, check=True, capture_output=True).stdout
    (tmp_path / "script").write_bytes(script)
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n", tmp_path / "script"], check=True, capture_output=True)


def test_bash_completes_by_it() -> None:
    script = (
        f'PATH="{BIN}:$PATH"; eval "$(_BATCH_ISSUER_COMPLETE=bash_source batch-issuer)"; '
        "COMP_WORDS=(batch-issuer issue --format t); COMP_CWORD=3; "
        '_batch_issuer_completion batch-issuer; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "tar tar.zst\n", done.stderr


def fresh_page() -> str:
    return man_page((ROOT / "README.md").read_text("utf-8"))


def test_the_man_page_is_what_the_program_says() -> None:
    fresh = fresh_page()
    if "BATCH_ISSUER_WRITE_DOCS" in os.environ:
        PAGE.write_text(fresh, "utf-8")
    else:
        assert PAGE.read_text("utf-8") == fresh, "the man page is stale: make man"


def test_the_man_page_has_every_command_and_option() -> None:
    page = fresh_page().replace(r"\-", "-")
    for path, command in leaves(cli):
        _, _, section = page.partition(f'.SS "{path}"\n')
        section = section.partition("\n.S")[0]
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.opts[-1] in section, path
    assert "\b" not in page
    assert ".TP\n\\fB130\\fR\n" in page


def leaves(group: click.Group, above: str = "") -> list[tuple[str, click.Command]]:
    found = []
    for name, command in group.commands.items():
        below = leaves(command, f"{above}{name} ") if isinstance(command, click.Group) else [(above + name, command)]
        found += below
    return found


def test_mandoc_and_man_accept_the_man_page() -> None:
    lint, man = shutil.which("mandoc"), shutil.which("man")
    if not (lint or man):
        pytest.skip("neither mandoc nor man is installed")
    if lint:
        done = subprocess.run([lint, "-T", "lint", "-W", "warning", PAGE], capture_output=True, text=True, check=False)
        # It has no date: it would be of another day than the program whose version it names.
        assert [line for line in done.stdout.splitlines() if "missing date" not in line] == []
    if man:
        done = subprocess.run([man, "-l", "--warnings", PAGE], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "batch-issuer issue" in done.stdout


@pytest.mark.skipif("BATCH_ISSUER_TEST_WHEEL" not in os.environ, reason="the wheel brings the page (make test)")
def test_the_wheel_brings_the_man_page() -> None:
    installed = Path(sysconfig.get_path("data")) / "share" / "man" / "man1" / "batch-issuer.1"
    assert installed.read_text("utf-8") == PAGE.read_text("utf-8")
