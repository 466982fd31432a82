"""The benchmark's arithmetic, its judgement, its texts, and one tiny real run. Nothing here is timed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from softhsm import need_softhsm

from batch_issuer.benchmark.figures import Limit, Spread, kind_and_engine, spread, summarise
from batch_issuer.benchmark.machine import file_system_type
from batch_issuer.benchmark.report import result_text
from batch_issuer.benchmark.rounds import Plan, installed_engines, names_of, spread_parts
from batch_issuer.benchmark.runs import run_program
from batch_issuer.benchmark.token import what_lacks
from batch_issuer.benchmark.workload import device_uuids, temporary_workload
from batch_issuer.errors import RunFailedError

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # benchmarks is not installed; last, so that the package that is tested is found first

from benchmarks import __main__ as program  # noqa: E402
from benchmarks import check, goals, results, tables  # noqa: E402
from benchmarks.sections import Scale, Section, measure_sections  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_issuer.benchmark.figures import Round

MACHINE: dict[str, str | int] = {
    "cpu": "Test CPU",
    "cores": 2,
    "kernel": "6.1",
    "file_system": "tmpfs",
    "python": "3.11.7",
    "cryptography": "50.0.2",
    "openssl": "4.0.3",
    "pyarrow": "26.0.1",
    "numpy": "none",
    "awscrt": "0.38.1",
    "batch_issuer": "0.1.0",
}


def rates(**found: float) -> Round:
    return {name.replace("_", " "): {"devices_per_second": rate} for name, rate in found.items()}


def issued(rate: float, **others: float) -> dict[str, float]:
    figures = {"wall_seconds": 1.5, "parent_peak_octets": 2e8, "worker_peak_octets": 1e8}
    return {"devices_per_second": rate, "parent_cpu_share": 0.05} | figures | others


ROUNDS = [
    rates(floor=40_000, core=32_000, bare_loop=10_000) | {"parquet": issued(30_000), "dir": issued(9_000)},
    rates(floor=20_000, core=15_000, bare_loop=10_000) | {"parquet": issued(14_000), "dir": issued(7_000)},
    rates(floor=30_000, core=27_000, bare_loop=10_000) | {"parquet": issued(24_000), "dir": issued(8_000)},
]


def test_a_spread_has_the_median_and_both_ends() -> None:
    assert spread([3, 1, 2]) == Spread(2, 1, 3)
    assert spread([4, 1, 2, 3]) == Spread(2.5, 1, 4)
    assert spread([7]) == Spread(7, 7, 7)


def test_ratios_are_taken_within_a_round() -> None:
    summary = summarise(ROUNDS)
    assert summary["floor"] == {"devices_per_second": Spread(30_000, 20_000, 40_000)}
    assert summary["core"]["of_floor"] == Spread(0.8, 0.75, 0.9)
    assert summary["parquet"]["of_floor"] == Spread(0.75, 0.7, 0.8)  # of the medians it would be 0.8
    assert summary["dir"]["of_bare_loop"] == Spread(0.8, 0.7, 0.9)
    assert "of_bare_loop" not in summary["parquet"]
    assert "of_floor" not in summarise([rates(core=1)])["core"]


@pytest.mark.parametrize(
    ("bound", "at_most", "holds"),
    [(0.75, False, True), (0.76, False, False), (0.75, True, True), (0.74, True, False)],
)
def test_a_limit_judges_the_median(*, bound: float, at_most: bool, holds: bool) -> None:
    limit = Limit("parquet", "of_floor", bound, at_most=at_most)
    assert limit.holds(summarise(ROUNDS)) is holds


def test_a_sealed_format_is_compared_with_itself_in_the_same_round() -> None:
    """A tar with a compressed one, which is what is sealed."""
    rates = {"tar": 100.0, "tar.zst": 200.0, "tar sealed": 190.0, "parquet sealed": 100.0}
    summary = summarise([{name: {"devices_per_second": rate} for name, rate in rates.items()}])
    assert summary["tar sealed"]["of_unsealed"].median == 0.95
    assert "of_unsealed" not in summary["tar"]
    assert "of_unsealed" not in summary["parquet sealed"]


def test_a_limit_says_the_rule_and_what_was_found() -> None:
    sentence = Limit("parquet", "of_floor", 0.9).sentence(summarise(ROUNDS))
    assert sentence == "parquet: of floor must be at least 0.90; it is 0.75 (0.70 to 0.80)"


def test_each_format_is_measured_after_the_floors() -> None:
    assert names_of(("parquet", "dir", "tar")) == ("floor", "core", "parquet", "bare loop", "dir", "tar")
    assert names_of(("p12",)) == ("floor", "core", "p12 loop", "p12", "p12 random")


def test_both_engines_are_measured_beside_one_floor() -> None:
    names = names_of(("parquet", "dir"), ("openssl", "aws-lc"))
    assert names == ("floor", "core", "core aws-lc", "parquet", "parquet aws-lc", "bare loop", "dir")
    assert [kind_and_engine(name) for name in names[3:5]] == [("parquet", "openssl"), ("parquet", "aws-lc")]


@pytest.mark.parametrize(
    ("devices", "workers", "size"), [(20_000, 2, 5000), (200_000, 2, 5000), (20_000, 16, 625), (7, 2, 2), (1, 8, 1)]
)
def test_a_short_run_has_two_parts_per_worker(devices: int, workers: int, size: int) -> None:
    assert spread_parts(devices, workers) == size


def test_the_devices_are_the_same_every_time() -> None:
    devices = device_uuids(12_000, seed=0)
    assert devices == device_uuids(12_000, seed=0)
    assert len(set(devices)) == 12_000
    assert not set(devices) & set(device_uuids(100, seed=1))
    assert {len(device) for device in devices} == {36}


def test_the_text_shows_medians_ratios_and_the_machine() -> None:
    text = result_text(MACHINE, Plan(20_000, 3, 2, ("floor", "core")), ROUNDS)
    assert "floor           30,000    20,000    40,000\n" in text
    assert "parquet         24,000    14,000    30,000          0.75    5.0%\n" in text
    assert "Test CPU, 2 cores" in text
    assert "OpenSSL 4.0.3" in text
    assert "20,000 devices, 2 processes, parts of 5,000; medians of 3 rounds" in text


def test_the_file_system_is_named() -> None:
    assert file_system_type(Path("/proc")) == "proc"


def test_a_program_that_fails_is_told_with_its_words(tmp_path: Path) -> None:
    with temporary_workload(tmp_path) as workload:
        missing = str(workload.folder / "nothing")
        with pytest.raises(RunFailedError, match=r"^`batch-issuer verify` ended with exit code 2: error: .*run\.json$"):
            run_program(workload, "verify", missing, "--pki", str(workload.pki), "-q")
    assert list(tmp_path.iterdir()) == []


# The short benchmark of continuous integration -----------------------------------------------------------------------


def trial(*measured: list[Round]) -> check.Trial:
    """A trial whose measurements are these, one after the other."""
    waiting = iter(measured)
    return check.Trial(lambda _tell: next(waiting), (Limit("core", "of_floor", 0.6), Limit("tar", "of_floor", 0.4)))


GOOD = [rates(floor=100, core=80, tar=60)]
SLOW_TAR = [rates(floor=100, core=80, tar=30)]
SLOW_CORE = [rates(floor=100, core=50, tar=60)]


@pytest.mark.parametrize(
    ("measured", "failures"),
    [
        ((GOOD,), []),
        ((SLOW_TAR, GOOD), []),
        ((SLOW_TAR, SLOW_CORE), []),
        ((SLOW_TAR, SLOW_TAR), ["tar: of floor must be at least 0.40; it is 0.30 (0.30 to 0.30)"]),
    ],
    ids=["good", "noise", "other noise", "slow"],
)
def test_only_what_fails_twice_fails(measured: tuple[list[Round], ...], failures: list[str]) -> None:
    told: list[str] = []
    assert check.run_trials([trial(*measured)], told.append) == failures
    again = [sentence for sentence in told if "once more, because" in sentence]
    assert len(again) == len(measured) - 1


@pytest.mark.parametrize(("measured", "exit_code"), [((GOOD,), 0), ((SLOW_TAR, SLOW_TAR), 1)], ids=["good", "slow"])
def test_check_ends_with_1_and_names_what_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, measured: tuple[list[Round], ...], exit_code: int
) -> None:
    def fed(*_: object) -> list[check.Trial]:
        return [trial(*measured)]

    monkeypatch.setattr(program, "trials_for", fed)
    result = CliRunner().invoke(program.main, ["--check", "--dir", str(tmp_path)])
    assert result.exit_code == exit_code, result.output
    assert ("error: tar: of floor must be at least 0.40; it is 0.30" in result.output) is bool(exit_code)


def test_check_judges_ratios_only(tmp_path: Path) -> None:
    with temporary_workload(tmp_path) as workload:
        limits = [limit for one in check.trials_for(workload, 100, 1, 1) for limit in one.limits]
    assert {limit.figure for limit in limits} == {"of_floor", "of_bare_loop", "parent_cpu_share"}


# Results, tables, README ---------------------------------------------------------------------------------------------


def some_results() -> results.Results:
    plan = {"devices": 20_000, "rounds": 3, "workers": 2}
    growth: Round = {"floor": {"devices_per_second": 40_000}, "1000000": issued(31_000), "parquet": issued(31_000)}
    growth |= {"parquet aws-lc": issued(41_000, wall_seconds=28.5), "tar": issued(26_000)}
    sections = {
        "rates-1": Section(plan | {"workers": 1}, ROUNDS),
        "rates-2": Section(plan, ROUNDS),
        "growth": Section(plan | {"workers": [1, 2]}, [growth | {"growth": {"evenness": 0.9}}]),
        "shell": Section(plan, [{"--help": {"wall_seconds": 0.1}, "issue 1,000": {"wall_seconds": 2.0}}]),
        "verify": Section(plan, [rates(parquet=20_000, tar=19_000, dir=10_000)]),
    }
    return results.Results("2026-11-23", MACHINE, sections)


def test_the_tables_show_every_section() -> None:
    text = tables.markdown(some_results())
    assert "| `parquet`, end to end, by OpenSSL | 24,000 | 0.75 | 24,000 | 0.75 | 5.0% |\n" in text
    assert "`dir` reaches 0.80 of its own floor." in text
    assert "| 1,000,000 | 1.5 | 31,000 | 200 MB | 100 MB |\n" in text
    assert "| 1,000,000 devices, 2 processes | devices/s | of the floor | seconds, shell to shell |\n" in text
    assert "| the floor: key generation and signature by OpenSSL | 40,000 |  |  |\n" in text
    assert "| `parquet`, end to end, by AWS-LC | 41,000 | 1.02 | 28.5 |\n" in text
    assert "`verify` of 20,000 devices: 20,000/s as `parquet`" in text
    assert "Shell to shell: `--help` 0.10 s, `issue 1,000` 2.00 s." in text
    assert "Measured on 2026-11-23: Test CPU, 2 cores" in text


def test_a_token_has_a_table_of_its_own() -> None:
    rounds: list[Round] = [
        {
            "C_Sign loop": {"devices_per_second": floor},
            "C_Sign loop, copy": {"devices_per_second": 30_000},
            "parquet": issued(rate),
        }
        for floor, rate in ((20_000, 18_000), (25_000, 19_000), (22_000, 17_000))
    ]
    found = some_results()
    assert "SoftHSM" not in tables.markdown(found)
    for workers in (2, 1):
        found.sections[f"hsm-{workers}"] = Section({}, rounds)
    text = tables.markdown(found)
    assert "1 process: per second | of the bare loop | 2 processes: per second | of the bare loop |\n" in text
    assert "| a bare loop of C_Sign with the CA's key | 22,000 |  | 22,000 |  |\n" in text
    assert "| the same with the session's copy of the key | 30,000 | 1.36 | 30,000 | 1.36 |\n" in text
    assert "| `issue --format parquet`, end to end | 18,000 | 0.77 | 18,000 | 0.77 |\n" in text
    assert "MISSED  parquet: of c sign must be at least 0.80; it is 0.77 (0.76 to 0.90)" in list(goals.verdicts(found))


def test_goals_are_said_to_be_met_or_missed() -> None:
    said = list(goals.verdicts(some_results()))
    assert "met     core: of floor must be at least 0.74; it is 0.80 (0.75 to 0.90)" in said
    assert "met     parquet aws-lc: of floor must be at least 1.00; it is 1.02 (1.02 to 1.02)" in said
    assert "MISSED  tar: of floor must be at least 0.66; it is 0.65 (0.65 to 0.65)" in said
    assert "MISSED  parquet aws-lc: wall seconds must be at most 28.00; it is 28.50 (28.50 to 28.50)" in said
    assert (
        "MISSED  dir: devices per second must be at least 11,000.00; it is 10,000.00 (10,000.00 to 10,000.00)" in said
    )
    assert "MISSED  issue 1,000: wall seconds must be at most 1.50; it is 2.00 (2.00 to 2.00)" in said


def test_sections_of_one_day_and_machine_stay(tmp_path: Path) -> None:
    path = tmp_path / "new" / "2026-11-23.json"
    whole = some_results()
    results.write(whole, path)
    assert results.read(path) == whole
    again = results.Results(whole.date, MACHINE, {"shell": Section({}, [{"--help": {"wall_seconds": 0.2}}])})
    results.write(again, path)
    found = results.read(path)
    assert set(found.sections) == set(whole.sections)
    assert found.sections["shell"].rounds == [{"--help": {"wall_seconds": 0.2}}]
    elsewhere = results.Results(whole.date, MACHINE | {"cores": 64}, {"shell": again.sections["shell"]})
    results.write(elsewhere, path)
    assert set(results.read(path).sections) == {"shell"}
    assert results.newest(path.parent) == path
    assert results.newest(tmp_path) is None


def test_the_readme_changes_between_its_marks_only(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- bench:table -->\nfigures of last year\n<!-- /bench:table -->\nafter\n")
    tables.update_readme(readme, some_results())
    text = readme.read_text()
    assert text.startswith("before\n<!-- bench:table -->\n\n| | 1 process: devices/s")
    assert text.endswith("\n\n<!-- /bench:table -->\nafter\n")
    assert "last year" not in text
    tables.update_readme(readme, some_results())
    assert readme.read_text() == text
    readme.write_text("no marks\n")
    with pytest.raises(ValueError, match=r"README\.md has no <!-- bench:table -->"):
        tables.update_readme(readme, some_results())


# For real ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command in a process of its own, as its fork server lives as long as that."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from batch_issuer.cli.bench import bench; bench()", *arguments]
        return subprocess.run([*command, "--dir", str(tmp_path)], capture_output=True, text=True, check=False)

    return run


def test_bench_measures_for_real(bench: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    formats = ("--formats", "parquet,tar.zst,tar sealed,dir")
    result = bench("--devices", "300", "--rounds", "1", "--workers", "2", *formats, "--json")
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("round 1 of 1: floor ")
    found = json.loads(result.stdout)
    assert set(found) == {"machine", "plan", "summary", "rounds"}
    assert set(found["machine"]) == set(MACHINE)
    assert found["plan"]["devices"] == 300
    assert tuple(found["summary"]) == names_of(("parquet", "tar.zst", "tar sealed", "dir"), installed_engines())
    for kind in ("parquet", "tar.zst", "tar sealed", "dir"):
        figures = found["rounds"][0][kind]
        assert figures["devices_per_second"] > 0
        assert figures["issue_seconds"] <= figures["run_seconds"] <= figures["wall_seconds"]
        assert 0 < figures["parent_cpu_seconds"] < figures["cpu_seconds"]
        assert figures["parent_cpu_share"] == figures["parent_cpu_seconds"] / figures["cpu_seconds"]
        assert min(figures["parent_peak_octets"], figures["worker_peak_octets"]) > 10e6
        assert found["summary"][kind]["of_floor"]["median"] > 0
    assert found["summary"]["dir"]["of_bare_loop"]["median"] > 0
    assert found["summary"]["tar sealed"]["of_unsealed"]["median"] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_token_is_measured_and_leaves_nothing(tmp_path: Path) -> None:
    need_softhsm()
    options = ["--only", "hsm", "--devices", "200", "--rounds", "1", "--dir", str(tmp_path / "here")]
    (tmp_path / "here").mkdir()
    code = f"import sys; sys.path.append({str(ROOT)!r}); from benchmarks.__main__ import main; main()"
    command = [sys.executable, "-c", code, *options, "--results", str(tmp_path / "results")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [file] = (tmp_path / "results").glob("*.json")
    sections = results.read(file).sections
    assert list(sections) == ["hsm-1", "hsm-2"]
    for section in sections.values():
        assert list(section.summary) == ["C_Sign loop", "C_Sign loop, copy", "parquet"]
        assert section.summary["parquet"]["of_c_sign"].median > 0
    assert list((tmp_path / "here").iterdir()) == []


def test_p12_is_measured_beside_its_own_loop_and_with_more_rounds(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    with temporary_workload(tmp_path / "here") as workload:
        [(name, section)] = measure_sections(workload, Scale(80, 1, (2,)), ("p12",), lambda _: None)
    more = ["10,000 rounds", "100,000 rounds", "600,000 rounds"]
    assert (name, list(section.summary)) == ("p12", ["p12 loop", "p12", "p12 random", *more])
    assert section.summary["p12 random"]["of_p12_loop"].median > 0
    found = some_results()
    found.sections[name] = section
    assert "all with 2,048 rounds of PBKDF2. The loop with more: " in tables.markdown(found)
    assert list((tmp_path / "here").iterdir()) == []


def test_without_softhsm_a_token_is_left_out_with_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batch_issuer.benchmark.token._MODULES", (tmp_path / "nowhere.so",))
    said: list[str] = []
    with temporary_workload(tmp_path) as workload:
        assert list(measure_sections(workload, Scale(10, 1, (1,)), ("hsm",), said.append)) == []
    assert said == ["hsm is left out: SoftHSM is not installed (Debian's package softhsm2)"]
    monkeypatch.setattr("batch_issuer.benchmark.token.find_spec", lambda _: None)
    assert what_lacks() == "python-pkcs11 is not installed: pip install 'batch-issuer[hsm]'"


def test_bench_refuses_an_unknown_format(bench: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    result = bench("--formats", "parquet,zip")
    assert result.returncode == 2
    assert result.stderr == ("error: format 'zip' is not known\nhint: known formats: dir, p12, parquet, tar, tar.zst\n")
