"""The command line: help that is fast and true, options that are checked, output that scripts can hold on to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import termios
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from judges import (
    HARDWARE,
    SMALL,
    contents,
    csv_bytes,
    csv_rows,
    device_uuids,
    finished_run,
    interrupted_run,
    issue,
    parquet_bytes,
    run,
    run_process,
)

from batch_issuer import __version__
from batch_issuer.cli import cli

UUIDS = device_uuids(8)
GOOD = csv_bytes(UUIDS)
COMMANDS = ((), ("issue",), ("verify",), ("extract",), ("ca",), ("ca", "create"), ("bench",))
HEAVY = ("pyarrow", "cryptography", "multiprocess", "tqdm", "numpy", "asyncio")

pytestmark = pytest.mark.usefixtures("work")


# Help


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_says_what_the_command_is_for(command: tuple[str, ...]) -> None:
    ran = run(*command, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"Usage: cli {' '.join(command)}".rstrip())
    assert max(map(len, ran.out.splitlines())) <= 110


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_imports_nothing_heavy(command: tuple[str, ...]) -> None:
    code = f"""
import sys
sys.argv = ["batch-issuer", *{command!r}, "-h"]
from batch_issuer.cli import main
try:
    main()
finally:
    sys.stderr.write(" ".join(name for name in {HEAVY!r} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert (done.stderr, done.stdout[:21]) == ("", "Usage: batch-issuer " + (command[0][0] if command else "["))


def test_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, batch_issuer; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "\n"


def test_version_by_module_and_by_script() -> None:
    expected = f"batch-issuer, version {__version__}\n"
    assert run_process("--version").out == expected
    script = Path(sys.executable).with_name("batch-issuer")
    assert subprocess.run([script, "--version"], capture_output=True, check=True, text=True).stdout == expected


# Usage


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("issue",), "Error: Missing option '--manifest'."),
        (("issue", "--manifest", "x", "--workers", "0"), "Error: Invalid value for '--workers': 0 is not in the range"),
        (
            ("issue", "--manifest", "x", "--part-size", "0"),
            "Error: Invalid value for '--part-size': 0 is not in the range",
        ),
        (("issue", "--manifest", "x", "--days", "0"), "Error: Invalid value for '--days': 0 is not in the range"),
        (("issue", "--manifest", "x", "--days", "x"), "Error: Invalid value for '--days': 'x' is not a valid integer"),
        (("issue", "--manifest", "x", "--format", "zip"), "Error: Invalid value for '--format': 'zip' is not one of"),
        (
            ("issue", "--manifest", "x", "--backdate", "1y"),
            "Error: Invalid value for '--backdate': expected a number and s, m, h or d, such as 1h; got '1y'",
        ),
        (("issue", "--manifest", "."), "Error: Invalid value for '--manifest': File '.' is a directory."),
        (("issue", "--manifest", "x", "--nonsense"), "Error: No such option"),
        (("extract", "x", UUIDS[0]), "Error: Missing option '--to'."),
        (("nonsense",), "Error: No such command 'nonsense'."),
    ],
)
def test_wrong_usage_is_told_with_exit_code_2(arguments: tuple[str, ...], told: str) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines()[-1].startswith(told)


@pytest.mark.parametrize("option", ["--gateway", "--ostree"])
@pytest.mark.parametrize(
    "host", ["", "a b", "https://x", "x:0", "x:65536", "x:y", "x:", "-x", 'x"', "x\n", "ü.example"]
)
def test_a_host_that_is_none_is_refused(option: str, host: str) -> None:
    ran = issue(GOOD, option, host)
    assert ran.err == f"error: {option}: expected HOST or HOST:PORT, got {host!r}\n"
    assert (ran.code, Path("issued").exists()) == (2, False)


@pytest.mark.parametrize("option", ["--hardware-id", "--tag"])
@pytest.mark.parametrize("text", ["a\nb", "\x7f", "\udcff", "x" * 1025], ids=ascii)
def test_text_that_would_spoil_sota_toml_is_refused(option: str, text: str) -> None:
    ran = issue(GOOD, option, text)
    assert ran.err.startswith(
        f"error: {option}: expected text of at most 1024 octets without control characters, got '"
    )
    assert (ran.code, Path("issued").exists()) == (2, False)


def test_an_empty_hardware_id_is_refused() -> None:
    ran = issue(GOOD, "--hardware-id", "")
    assert ran.err.startswith("error: --hardware-id: expected text ")
    assert (ran.code, Path("issued").exists()) == (2, False)


@pytest.mark.parametrize("name", ["", "../local-ca", "a/b", ".", "factory_ca"])
def test_a_ca_name_that_is_none_is_refused(name: str) -> None:
    ran = issue(GOOD, "--ca-name", name)
    assert ran.err.startswith("error: a CA's name must be") or "factory_ca is the root" in ran.err
    assert (ran.code, Path("issued").exists()) == (2, False)


def test_another_device_ca_of_the_directory_signs(tmp_path: Path) -> None:
    from pki import make_ca_dir

    pki = make_ca_dir(tmp_path / "plant", ca_name="site2")
    assert issue(GOOD, "--pki", pki, "--ca-name", "site2", "--gateway", "g.example").code == 0
    (pki / "local-ca.pem").symlink_to("site2.pem")
    finished_run(Path("issued"), pki, UUIDS)
    ran = issue(GOOD, "--pki", pki, "--ca-name", "site3", "--out", "other")
    assert ran.err.splitlines()[0] == f"error: the PKI directory {pki} lacks site3.pem, site3.key"


# What it says


def test_a_finished_run_is_told_for_people() -> None:
    ran = issue(GOOD, "--format", "tar")
    lines = ran.out.splitlines()
    assert lines[0].startswith("8 devices issued in ")
    assert [line.split()[0] for line in lines[1:]] == ["bundles", "manifest", "validity", "report", "next"]
    assert lines[4] == "  report    issued/report.html  (for any browser)"
    assert lines[-1] == "  next      batch-issuer verify issued --pki pki"
    assert ran.err == ""


def test_json_is_one_object_on_stdout_and_quiet_is_quiet() -> None:
    ran = issue(GOOD, "--json")
    assert json.loads(ran.out) == json.loads(Path("issued/summary.json").read_bytes())
    assert json.loads(ran.out)["devices"] == 8
    quiet = issue(GOOD, "-q", "--out", "other")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


def test_json_of_a_refusal() -> None:
    ran = issue(b"", "--json")
    assert json.loads(ran.out) == {
        "error": "the manifest devices.csv is empty",
        "hint": "it needs a header line, such as: device_uuid,name",
        "exit_code": 2,
    }
    assert ran.err.startswith("error: the manifest devices.csv is empty\n")


@pytest.mark.parametrize("option", ["--ledger", "--ca-passphrase-file"])
def test_an_address_is_no_file(option: str) -> None:
    ran = issue(GOOD, option, "s3://name:hunter2@factory/x")
    assert (ran.code, ran.err.splitlines()[-1]) == (
        2,
        f"Error: Invalid value for '{option}': it must be a file of this machine; it is an address.",
    )
    assert "hunter2" not in ran.err + ran.out
    assert not Path("issued").exists()


def test_a_traceback_is_shown_with_v_alone() -> None:
    assert "Traceback" not in issue(b"").err
    assert "Traceback" in issue(b"", "-v").err


def test_an_error_that_nobody_foresaw_is_a_sentence_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from batch_issuer.batch import means

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(means, "load_issuer", fail)
    ran = issue(GOOD)
    assert ran.err == (
        "error: this should not have happened: ZeroDivisionError: by nought\nhint: -v shows where; please report it\n"
    )
    assert (ran.code, Path("issued").exists()) == (1, False)
    assert "in fail" in issue(GOOD, "-v").err


def test_progress_on_a_pipe_is_a_plain_line_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    from batch_issuer.cli import progress

    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.0)
    ran = issue(GOOD)
    assert ran.code == 0
    lines = ran.err.splitlines()
    assert len(lines) == 3
    assert lines[-1].startswith("8 of 8 devices issued, ")
    assert "\r" not in ran.err


def test_progress_on_a_terminal_is_a_bar_on_stderr() -> None:
    Path("devices.csv").write_bytes(GOOD)
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    command = [sys.executable, "-m", "batch_issuer", "issue", "--manifest", "devices.csv", *SMALL, *HARDWARE]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, check=True)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # the other end is closed: all was read
        pass
    os.close(ours)
    assert b"devices" in shown
    assert b"8.00/8.00" in shown
    assert done.stdout.startswith(b"8 devices issued in ")


def test_a_reader_that_goes_away_spoils_nothing(factory_pki: Path) -> None:
    Path("devices.csv").write_bytes(GOOD)
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "batch_issuer", "issue", "--manifest", "devices.csv", *SMALL, *HARDWARE]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
    finished_run(Path("issued"), factory_pki, UUIDS)


# Where things come from


def test_the_pki_comes_from_the_environment_and_the_option_has_the_last_word(
    factory_pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("pki").rename("elsewhere")
    assert issue(GOOD).err.startswith("error: the PKI directory pki does not exist\n")
    monkeypatch.setenv("BATCH_ISSUER_PKI", "elsewhere")
    assert issue(GOOD).code == 0
    finished_run(Path("issued"), factory_pki, UUIDS)
    assert issue(GOOD, "--pki", "nowhere", "--out", "other").code == 2


@pytest.mark.parametrize("options", [(), ("--dry-run",)], ids=str)
def test_standard_input_may_be_csv_or_parquet(options: tuple[str, ...], factory_pki: Path) -> None:
    import pyarrow as pa

    for content in (GOOD, parquet_bytes({"uuid": pa.array(UUIDS)})):
        arguments = ("issue", "--manifest", "-", *SMALL, *HARDWARE, "--manifest-format", "csv", *options)
        ran = run(*arguments, "--out", f"out-{len(content)}", stdin=content)
        assert (ran.code, ran.err) == (0, "")
        if not options:
            finished_run(Path(f"out-{len(content)}"), factory_pki, UUIDS)


def test_standard_input_is_resumed_with_the_same_octets(factory_pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, GOOD)
    arguments = ("issue", "--manifest", "-", *SMALL, *HARDWARE, "--resume")
    assert run(*arguments, stdin=GOOD + b"\n").err.startswith("error: the manifest is not the one that the run began")
    assert run(*arguments, stdin=GOOD).code == 0
    finished_run(Path("issued"), factory_pki, UUIDS)


def test_names_that_are_no_text_are_no_obstacle(factory_pki: Path) -> None:
    name = os.fsdecode(b"ger\xe4te 1.csv")
    ran = issue(GOOD, "--out", os.fsdecode(b"los \xff"), name=name)
    assert ran.code == 0
    finished_run(Path(os.fsdecode(b"los \xff")), factory_pki, UUIDS)


# Dry runs and finished runs


def test_a_dry_run_checks_everything_and_writes_nothing(work: Path) -> None:
    before = contents(work)
    ran = issue(GOOD, "--dry-run", "--out", "a/b")
    Path("devices.csv").unlink()
    assert contents(work) == before
    lines = ran.out.splitlines()
    assert lines[0] == "8 devices of 8 rows would be issued by local-ca of acme"
    assert [line.split()[0] for line in lines[1:-1]] == ["parts", "size", "time", "validity"]
    assert (ran.code, ran.err, lines[-1]) == (0, "", "nothing was written")


def test_a_dry_run_in_json() -> None:
    told = json.loads(issue(csv_bytes([*UUIDS, "x"]), "--dry-run", "--json", "--skip-rejects").out)
    expected = {"dry_run": True, "rows": 9, "devices": 8, "csr_rows": 0, "rejected": 1, "parts": 3, "warnings": []}
    assert {name: told[name] for name in expected} == expected
    assert set(told) - set(expected) == {"octets", "seconds", "not_before", "not_after"}


def test_a_dry_run_tells_what_would_be_rejected() -> None:
    ran = issue(csv_bytes([*UUIDS, "x"]), "--dry-run", "--skip-rejects")
    assert ran.out.splitlines()[0] == "8 devices of 9 rows would be issued by local-ca of acme"
    assert "uuid-malformed: row 9, column 'device_uuid': " in ran.err
    assert (ran.code, Path("issued").exists()) == (3, False)


def test_a_dry_run_of_a_resume_compares_with_what_was_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, GOOD)
    before = contents(Path("issued"))
    assert issue(GOOD, "--dry-run", "--resume").code == 0
    ran = issue(GOOD, "--dry-run", "--resume", "--days", "31")
    assert (ran.code, ran.err.splitlines()[0]) == (2, "error: the run began otherwise: days was 30, now 31")
    assert contents(Path("issued")) == before


def test_a_finished_run_resumed_has_nothing_to_do() -> None:
    assert issue(GOOD).code == 0
    before = contents(Path("issued"))
    ran = issue(GOOD, "--resume")
    assert (ran.code, ran.out, ran.err) == (0, "", "the run is finished already: nothing to do\n")
    assert contents(Path("issued")) == before


def test_a_finished_run_with_rejects_resumed_has_nothing_to_do_either() -> None:
    manifest = csv_bytes([*UUIDS, "x"])
    assert issue(manifest, "--skip-rejects").code == 3
    before = contents(Path("issued"))
    ran = issue(manifest, "--skip-rejects", "--resume")
    assert (ran.code, ran.out, ran.err) == (0, "", "the run is finished already: nothing to do\n")
    assert contents(Path("issued")) == before


def test_resume_of_a_run_that_never_began_begins_it(factory_pki: Path) -> None:
    assert issue(GOOD, "--resume").code == 0
    finished_run(Path("issued"), factory_pki, UUIDS)


def test_a_part_may_hold_one_device_or_all(factory_pki: Path) -> None:
    for size in ("1", "8", "1000000"):
        assert issue(GOOD, "--part-size", size, "--out", size, "--format", "tar").code == 0
        finished_run(Path(size), factory_pki, UUIDS)


def test_verify_agrees_with_what_was_issued() -> None:
    assert issue(GOOD).code == 0
    ran = run("verify", "issued", "--pki", "pki")
    assert (ran.code, ran.err) == (0, "")


def test_ca_create_and_the_main_job_from_nothing() -> None:
    made = run("ca", "create", "mine", "--factory", "acme", "--gateway-host", "gw.acme.example")
    assert made.code == 0
    assert issue(GOOD, "--pki", "mine").code == 0
    found = tomllib.loads(Path("issued/bundles", UUIDS[0], "sota.toml").read_text())
    assert found["tls"]["server"] == "https://gw.acme.example:8443"
    again = run("ca", "create", "mine", "--factory", "acme")
    assert again.err.startswith("error: mine holds a PKI already (")
    assert again.code == 2
    assert {row["row"] for row in csv_rows(Path("issued/manifest.csv"))} == {str(row) for row in range(1, 9)}


def test_commands_are_listed_in_an_order_that_helps() -> None:
    assert set(cli.commands) >= {"issue", "verify", "extract", "ca"}
    assert CliRunner().invoke(cli, []).output.startswith("Usage: ")
