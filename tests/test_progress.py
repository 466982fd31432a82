"""What a person sees while a run goes on."""

from __future__ import annotations

import io
import sys

import pytest

from batch_issuer.cli.progress import Progress


class Clock:
    """Time that goes on when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("batch_issuer.cli.progress.time.monotonic", lambda: self.now)


class Terminal(io.StringIO):
    """A standard error that is one."""

    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_a_plain_line_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    progress = Progress()
    progress.begin(100_000)
    for _ in range(13):
        clock.now += 1
        progress.advance(5_000)
    progress.end()
    assert capsys.readouterr().err.splitlines() == [
        "25,000 of 100,000 devices issued, 5,000/s, 15 s left",
        "50,000 of 100,000 devices issued, 5,000/s, 10 s left",
    ]


def test_devices_of_an_earlier_run_do_not_count_for_the_rate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    progress = Progress()
    progress.begin(100_000)
    progress.advance(60_000, minted=False)
    clock.now += 10
    progress.advance(10_000)
    assert capsys.readouterr().err == "70,000 of 100,000 devices issued, 1,000/s, 30 s left\n"


def test_a_terminal_gets_a_bar_with_rate_and_remaining_time(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress()
    progress.begin(100_000)
    progress.advance(50_000)
    progress.warn("something")
    progress.advance(50_000)
    progress.end()
    shown = terminal.getvalue()
    assert "warning: something\n" in shown
    assert "100%" in shown
    assert "100k/100k" in shown
    assert " devices/s]" in shown


def test_quiet_says_only_what_matters(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock(monkeypatch)
    progress = Progress(quiet=True)
    progress.begin(10)
    clock.now += 60
    progress.advance(5)
    progress.say("so it goes")
    progress.warn("look")
    progress.end()
    assert capsys.readouterr().err == "warning: look\n"


@pytest.mark.parametrize("broken", [None, "full"])
def test_a_standard_error_that_cannot_be_written_ends_nothing(
    broken: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = None if broken is None else open("/dev/full", "w")  # noqa: SIM115 - closed below
    monkeypatch.setattr(sys, "stderr", stream)
    progress = Progress()
    progress.begin(10)
    progress.warn("look")
    progress.end()
    if stream is not None:
        with pytest.raises(OSError, match="No space left"):
            stream.close()
