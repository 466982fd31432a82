"""report.html: its facts are the run's, nothing in it is markup that was text, and nothing in it can load or run."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest
from crash_matrix import new_recipient
from hypothesis import given
from hypothesis import strategies as st
from judges import contents, csv_bytes, device_uuids, interrupted_run, issue, run, stored_bundles
from pages import Element, parsed

from batch_issuer.batch.summary import Summary
from batch_issuer.devices import Rejection
from batch_issuer.output.record import read_record
from batch_issuer.output.rows import read_commit
from batch_issuer.output.timing import PartTiming
from batch_issuer.reporting import page as page_module
from batch_issuer.reporting.facts import duration
from batch_issuer.reporting.markup import Html, tag
from batch_issuer.reporting.report import RunReport
from batch_issuer.reporting.tally import Tally
from batch_issuer.reporting.times import MOST_BLOCKS, MOST_LANES, MOST_SESSIONS, PartTimes

UUIDS = device_uuids(8)
GOOD = csv_bytes(UUIDS)
HOSTILE = "<script>alert(1)</script>"
FORMATS = {
    "dir": (),
    "tar": (),
    "tar.zst": (),
    "parquet": (),
    "p12": ("--format", "p12", "--p12-random-passwords"),
}

pytestmark = pytest.mark.usefixtures("work")


def report(out: str = "issued") -> Element:
    return parsed(Path(out, "report.html").read_bytes())


def made(name: str, out: str = "issued") -> dict[str, object]:
    values: dict[str, object] = json.loads(Path(out, name).read_bytes())
    return values


def findings() -> set[tuple[str, str]]:
    ran = run("verify", "issued", "--pki", "pki", "--json")
    return {(found["place"], found["code"]) for found in json.loads(ran.out)["findings"]}


@pytest.mark.parametrize("bundle_format", FORMATS)
def test_it_is_there_and_its_facts_are_the_runs(bundle_format: str) -> None:
    ran = issue(GOOD, "--format", bundle_format, *FORMATS[bundle_format])
    assert ran.code == 0
    assert "  report    issued/report.html  (for any browser)" in ran.out.splitlines()
    record, summary, page = made("run.json"), made("summary.json"), report()
    assert summary["report"] == "issued/report.html"
    assert Path("issued/report.html").stat().st_mode & 0o777 == 0o644
    assert page.all("h1")[0].text == "8 device certificates issued complete"
    tiles = page.tiles()
    assert (tiles["issued"], tiles["rejected"]) == ("8", "0")
    assert float(re.sub("[^0-9.]", "", tiles["rate"])) == pytest.approx(summary["devices_per_second"], abs=0.5)
    facts = page.facts()
    assert facts["Its SHA-256"] == record["manifest_sha256"] == sha256(GOOD).hexdigest()
    assert facts["Manifest"] == "devices.csv (csv, 8 rows)"
    assert facts["Valid until"].replace(" UTC", "Z").replace(" ", "T") == record["not_after"]
    steps = {row[0]: row[2] for row in page.rows("Time of the last command, by step")}
    names = ("plan", "start", "issue", "finish")
    assert steps == {name: duration(float(str(summary[f"{name}_seconds"]))) for name in names}
    workers = page.rows("Workers of command 1")
    assert sum(int(row[1]) for row in workers) == summary["parts"] == 3
    assert sum(int(row[2]) for row in workers) == 8
    blocks = page.all("desc", id="timeline-1-text")[0].text
    assert blocks.startswith(f"{len(workers)} worker")


def test_the_files_that_it_names_are_the_files_that_are_there() -> None:
    assert issue(csv_bytes([*UUIDS, "x"]), "--skip-rejects").code == 3
    rows = report().rows("Files of this run")
    assert {row[0].rstrip("/") for row in rows} == {path.name for path in Path("issued").iterdir()}
    listed = {row[0].rstrip("/") for row in rows if row[2] == "yes"}
    sums = {line.split("  ")[1].split("/")[0] for line in Path("issued/SHA256SUMS").read_text().splitlines()}
    assert listed == sums


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        (("--format", "p12", "--p12-random-passwords"), " --p12-passwords FILE"),
        (("--format", "tar", "--seal-to", "recipient"), " --identity FILE"),
        ((), ""),
    ],
)
def test_the_commands_that_it_names_open_the_bundles(options: tuple[str, ...], needed: str) -> None:
    recipient = new_recipient(Path())
    assert issue(GOOD, *(recipient if option == "recipient" else option for option in options)).code == 0
    text = report().text
    assert f"batch-issuer extract issued --all --to bundles{needed}" in text
    assert f"batch-issuer register issued --api URL --token-file FILE{needed} --dry-run" in text


@pytest.mark.parametrize(("options", "more"), [((), ""), (("--ledger", "ledger"), " --ledger FILE")])
def test_mended_rows_go_by_the_same_ledger(options: tuple[str, ...], more: str) -> None:
    assert issue(csv_bytes([*UUIDS, "bad"]), "--skip-rejects", *options).code == 3
    commands = [code.text for code in report().all("code")]
    assert f"batch-issuer issue --manifest mended.csv --pki pki --out NEW{more}" in commands


def test_rejected_rows_stand_by_reason_with_three_examples() -> None:
    bad = [",n", *(f"bad{number},n" for number in range(5)), f"{UUIDS[0]},n"]
    rows = [*(f"{uuid},n" for uuid in UUIDS), *bad]
    assert issue(csv_bytes(rows, "device_uuid,name"), "--skip-rejects").code == 3
    page = report()
    reasons = page.all("article", class_="reason")
    heads = [(one.all("code")[0].text, one.all("span")[0].text) for one in reasons]
    assert heads == [("uuid-malformed", "5"), ("uuid-missing", "1"), ("uuid-duplicate", "1")]
    examples = [item.text for item in reasons[0].all("li")]
    assert len(examples) == 4
    assert examples[3] == "… and 2 more"
    assert "got 'bad0'" in examples[0]
    assert page.tiles()["rejected"] == str(made("summary.json")["rejected"]) == "7"
    assert page.all("span", class_="badge bad")


def test_no_text_becomes_markup(work: Path) -> None:
    """What a manifest says, how it is called, what devices are called: all of it is shown, and none of it works."""
    rows = [f"{UUIDS[0]},{HOSTILE}", f'"{HOSTILE}",n', '"""><img src=http://h/i onerror=e()>",n', "&lt;b&gt;\u202e,n"]
    name = "<b onclick=e()>&\"'\u202e.csv"
    options = ("--tag", "</title><script>", "--hardware-id", "'\"><svg onload=e()>", "--out", "<i>$(id)")
    assert issue(csv_bytes(rows, "device_uuid,name"), "--skip-rejects", *options, name=name).code == 3
    page = report("<i>$(id)")
    facts = page.facts()
    assert facts["Manifest"] == "<b onclick=e()>&\"'\\u202e.csv (csv, 4 rows)"
    assert facts["Hardware id"] == "'\"><svg onload=e()>, tag </title><script>"
    examples = [item.text for item in page.all("article", class_="reason")[0].all("li")]
    assert f"got '{HOSTILE}'" in examples[0]
    assert examples[2].endswith("got '&lt;b&gt;\\u202e'")
    commands = [pre.text for pre in page.all("pre")]
    assert commands[0] == "batch-issuer verify '<i>$(id)' --pki pki"
    octets = Path("<i>$(id)", "report.html").read_bytes()
    assert b"<script" not in octets
    assert b"<img" not in octets


@given(st.text(), st.text())
def test_whatever_it_is_it_stays_text(text: str, value: str) -> None:
    found = parsed(_page(tag("p", text, title=value)))
    [paragraph] = found.all("p")
    assert not any(isinstance(child, Element) for child in paragraph.children)
    assert all(character.isprintable() for character in paragraph.text + paragraph.attributes["title"])
    if text.isprintable():
        assert paragraph.text == text


def test_the_strict_parser_finds_what_works() -> None:
    """The twin: were a text not escaped, the tests above would say so."""
    for wrong, said in (
        (Html(HOSTILE), "<script> has no place"),
        (tag("p", onclick="e()"), "is a script"),
        (tag("p", style="color:red"), "loads"),
        (tag("p", title="http://h"), "leads somewhere"),
        (Html("<p>"), "is open"),
        (Html("<!--x-->"), "a comment"),
    ):
        with pytest.raises(AssertionError, match=said):
            parsed(_page(wrong))


def _page(content: Html) -> bytes:
    body = tag("html", tag("head", tag("style", "p{}")), tag("body", content))
    return f"<!doctype html>{body}".encode()


def test_the_policy_allows_the_style_sheet_and_nothing_else() -> None:
    assert issue(GOOD).code == 0
    page = report()
    [style] = page.all("style")
    digest = b64encode(sha256(style.text.encode()).digest()).decode()
    [policy] = [meta.attributes["content"] for meta in page.all("meta") if "http-equiv" in meta.attributes]
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_no_secret_is_in_it() -> None:
    Path("password").write_text("correct horse battery")
    assert issue(GOOD, "--format", "p12", "--p12-random-passwords", "--out", "random").code == 0
    assert issue(GOOD, "--format", "p12", "--p12-password-file", "password", "--out", "given").code == 0
    assert issue(GOOD, "--out", "folders").code == 0
    listed = Path("random/p12-passwords.csv").read_text().split()[1:]
    secrets = [line.split(",")[1] for line in listed] + ["correct horse battery"]
    for files in stored_bundles(Path("folders")).values():
        secrets += files["pkey.pem"].decode().splitlines()[1:-1]
    assert len(secrets) >= 9 + 8
    pages = "".join(Path(out, "report.html").read_text() for out in ("random", "given", "folders"))
    assert not [secret for secret in secrets if secret in pages]
    assert "PRIVATE KEY" not in pages


def test_no_report_is_none_and_the_run_verifies() -> None:
    ran = issue(GOOD, "--no-report")
    assert ran.code == 0
    assert "report" not in ran.out
    assert not Path("issued/report.html").exists()
    assert (made("run.json")["report"], made("summary.json")["report"]) == (False, None)
    assert findings() == set()
    Path("issued/report.html").write_bytes(b"planted")
    Path("issued/report.html").chmod(0o644)
    assert findings() == {("report.html", "folder-unknown"), ("report.html", "sums-no-line")}


def test_a_dry_run_writes_none() -> None:
    assert issue(GOOD, "--dry-run").code == 0
    assert not Path("issued").exists()


def test_a_run_is_resumed_with_the_report_that_it_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, GOOD)
    before = contents(Path("issued"))
    ran = issue(GOOD, "--resume", "--no-report")
    assert (ran.code, ran.err.splitlines()[0]) == (2, "error: the run began otherwise: report was True, now False")
    after = contents(Path("issued"))
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} <= {".run/plan.arrow"}


@pytest.mark.parametrize("found", ["sums-digest", "folder-missing"])
def test_verify_says_when_it_is_not_the_runs(found: str) -> None:
    assert issue(GOOD).code == 0
    assert findings() == set()
    path = Path("issued/report.html")
    if found == "sums-digest":
        path.write_bytes(path.read_bytes().replace(b"8 device", b"9 device"))
        assert findings() == {("report.html", found)}
    else:
        path.unlink()
        assert findings() == {("report.html", found), ("report.html", "sums-no-file")}


def test_a_resumed_run_shows_both_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, GOOD)
    first = len(list(Path("issued/.run/commits").iterdir()))
    assert issue(GOOD, "--resume").code == 0
    page = report()
    assert sum(int(row[1]) for row in page.rows("Workers of command 1")) == first
    assert sum(int(row[1]) for row in page.rows("Workers of command 2")) == 3 - first
    text = page.text
    assert "The run was made by 2 commands: it was interrupted and resumed." in text
    assert findings() == set()


def test_parts_whose_time_nobody_wrote_down_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a commit record of another maker has none."""
    interrupted_run(monkeypatch, GOOD, parts=2)
    monkeypatch.setattr(PartTiming, "decode", lambda _: None)
    assert issue(GOOD, "--resume").code == 0
    page = report()
    assert "When 3 parts of 3 were made is not known." in page.text
    assert not page.all("desc", id="timeline-1-text")
    assert "Not known" in page.text


def test_a_timing_is_read_as_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    timing = PartTiming(session=1, worker="0123abcd", began=2, micros=3, signing_micros=4)
    assert PartTiming.decode(timing.encode()) == timing
    for wrong in (None, b"", b"1 1 0123abcd 2 3", b"2 1 0123abcd 2 3 4", b"1 1 <script> 2 3 4", b"1 " + b"9" * 99):
        assert PartTiming.decode(wrong) is None
    interrupted_run(monkeypatch, GOOD, parts=2)
    found = [read_commit(path).timing for path in Path("issued/.run/commits").iterdir()]
    assert len({timing.session for timing in found if timing}) == 1
    assert all(timing is not None and timing.micros > 0 for timing in found)


def times(parts: int, *, sessions: int = 1, workers: int = 2, timed: int = 0) -> PartTimes:
    gathered = PartTimes()
    for index in range(parts):
        session = 1_000_000 * (1 + index * sessions // parts)
        worker = f"{index % workers:08x}"
        timing = PartTiming(
            session=session, worker=worker, began=session + index * 50, micros=100_000, signing_micros=timed
        )
        gathered.add(1000, timing)
    return gathered


def test_rates_and_floor_are_those_of_the_parts() -> None:
    """Two workers, 100 ms for each part of 1,000 devices, 40 ms of that in keys and signatures."""
    [session] = times(40, timed=40_000).sessions()
    assert session.seconds == pytest.approx(39 * 0.05 + 0.1)
    assert sum(session.rates) * session.seconds / len(session.rates) == pytest.approx(40_000)
    assert session.rates[20] == pytest.approx(20_000)
    assert session.floor == pytest.approx(2 * 1000 / 0.04)
    assert times(40).sessions()[0].floor is None
    assert [lane.parts for lane in session.lanes] == [20, 20]
    assert session.lanes[0].busy == pytest.approx(2.0)


def test_what_it_draws_is_bounded() -> None:
    few, many = (times(parts, sessions=9, workers=100) for parts in (9_000, 90_000))
    for gathered in (few, many):
        found = gathered.sessions()
        assert len(found) == MOST_SESSIONS < gathered.commands == 9
        for session in found:
            assert len(session.lanes) == MOST_LANES < session.workers == 100
            assert sum(len(lane.blocks) for lane in session.lanes) <= MOST_BLOCKS + 100
    assert issue(GOOD).code == 0
    record, summary = read_record(Path("issued/run.json")), Summary.from_json(Path("issued/summary.json").read_bytes())
    sizes = []
    for gathered in (few, many):
        making = RunReport(record, Path("pki"))
        making._times = gathered
        sizes.append(len(making.page(summary)))
    assert max(sizes) < 400_000
    assert max(sizes) < 1.2 * min(sizes)


def test_a_tally_keeps_three_of_each_reason() -> None:
    found = [Rejection(row, "c", "v", f"code-{row % 2}", f"row {row}") for row in range(10_001)]
    tally = Tally(found)
    for _ in range(2):  # the same again, and not twice as many
        assert list(tally) == found
        assert tally.counts == {"code-0": 5001, "code-1": 5000}
        assert [one.row for one in tally.examples["code-1"]] == [1, 3, 5]
    assert len(tally) == 10_001


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0004, "0 ms"), (0.0123, "12 ms"), (1.234, "1.23 s"), (59.96, "60.0 s"), (3600, "1 h"), (7300, "2 h 2 min")],
)
def test_times_are_readable(seconds: float, text: str) -> None:
    assert duration(seconds) == text


PAIRS = [
    ("ink", "paper"),
    ("soft", "paper"),
    ("soft", "page"),
    ("good", "good-paper"),
    ("bad", "bad-paper"),
    ("bad", "paper"),
    ("floor", "paper"),
    ("ink", "code"),
]


def colours(media: str) -> dict[str, tuple[int, ...]]:
    css = page_module._STYLE.read_text()
    block = css.partition(media)[2] if media else css
    found = re.findall(r"--([a-z0-9-]+): #([0-9a-f]{3,6});", block.partition("}")[0])
    return {name: _rgb(value) for name, value in found}


def _rgb(value: str) -> tuple[int, ...]:
    full = value if len(value) == 6 else "".join(2 * digit for digit in value)
    return tuple(bytes.fromhex(full))


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """By WCAG 2.2, "contrast ratio"."""

    def luminance(colour: tuple[int, ...]) -> float:
        parts = [value / 255 for value in colour]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("media", ["", "(prefers-color-scheme: dark)", "@media print"], ids=["light", "dark", "print"])
def test_texts_can_be_read(media: str) -> None:
    found = colours(media)
    for text, ground in PAIRS:
        assert contrast(found[text], found[ground]) >= 4.5, (text, ground)
    assert contrast(found["line"], found["paper"]) < 4.5  # the twin: it does tell
