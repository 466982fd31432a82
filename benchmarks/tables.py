"""The measured tables as Markdown, and their place in the README."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_issuer.benchmark.figures import P12, P12_LOOP, P12_RANDOM, SEALED
from batch_issuer.benchmark.report import machine_lines
from batch_issuer.bundles.sealed import stored_as
from benchmarks.handshakes import PROBE, S_TIME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batch_issuer.benchmark.figures import Spread, Summary
    from benchmarks.results import Results
    from benchmarks.sections import Section

__all__ = ["LABELS", "TOKEN_LABELS", "markdown", "update_readme"]

_BEGIN, _END = "<!-- bench:table -->", "<!-- /bench:table -->"

TOKEN_LABELS = {
    "C_Sign loop": "a bare loop of C_Sign with the CA's key",
    "C_Sign loop, copy": "the same with the session's copy of the key",
    "parquet": "`issue --format parquet`, end to end",
}

LABELS = {
    "floor": "the floor: key generation and signature by OpenSSL",
    "core": "the core: keys, certificates, manifest rows, no files; by OpenSSL",
    "core aws-lc": "the same by AWS-LC",
    "parquet": "`parquet`, end to end, by OpenSSL",
    "parquet aws-lc": "`parquet`, end to end, by AWS-LC",
    "parquet sealed": "`parquet` with `--seal-to`, end to end, by OpenSSL",
    "tar.zst": "`tar.zst`, end to end, by OpenSSL",
    "tar.zst aws-lc": "`tar.zst`, end to end, by AWS-LC",
    "tar": "`tar`, end to end, by OpenSSL",
    "tar aws-lc": "`tar`, end to end, by AWS-LC",
    "tar sealed": "`tar` with `--seal-to`, which compresses it, end to end, by OpenSSL",
    "bare loop": "the floor of `dir`: bare folders and files too",
    "dir": "`dir`, end to end, by OpenSSL",
}


def markdown(results: Results) -> str:
    """All tables of the results, and what they were measured on."""
    tables = (_rates(results), _growth(results), _most(results), _tokens(results), _others(results))
    blocks = [list(table) for table in tables]
    lines = [line for block in blocks if block for line in (*block, "")]
    return "\n".join([*lines, f"Measured on {results.date}: {'; '.join(machine_lines(results.machine))}.", ""])


def update_readme(readme: Path, results: Results) -> None:
    """Replace the text between the README's marks.

    Raises:
        ValueError: it has no such marks.
    """
    text = readme.read_text("utf-8")
    head, begin, rest = text.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{readme.name} has no {_BEGIN} … {_END}")
    readme.write_text(f"{head}{_BEGIN}\n\n{markdown(results)}\n{_END}{tail}", "utf-8")


def _rates(results: Results) -> Iterator[str]:
    if not results.rates:
        return
    header, rule = "|", "| --- |"
    for workers, _ in results.rates:
        header += f" | {workers} {'process' if workers == 1 else 'processes'}: devices/s | of the floor"
        rule += " ---: | ---: |"
    yield f"{header} | parent's CPU |"
    yield f"{rule} ---: |"
    summaries = [section.summary for _, section in results.rates]
    for name in summaries[-1]:
        cells = [LABELS.get(name, name)]
        for summary in summaries:
            cells += [_rate(summary, name), _ratio(summary, name)]
        share = summaries[-1][name].get("parent_cpu_share")
        cells.append("" if share is None else f"{share.median:.1%}")
        yield f"| {' | '.join(cells)} |"
    settings = results.rates[-1][1].settings
    yield ""
    yield (
        f"{settings['devices']:,} devices, medians of {settings['rounds']} rounds; every round measures all of them, "
        f"and ratios are taken within a round. {_own_floors(summaries[-1])}".rstrip()
    )


def _own_floors(summary: Summary) -> str:
    ratio = summary.get("dir", {}).get("of_bare_loop")
    sentences = [f"`dir` reaches {ratio.median:.2f} of its own floor."] if ratio else []
    sealed = {name: figures["of_unsealed"].median for name, figures in summary.items() if "of_unsealed" in figures}
    sentences += [
        f"`{stored_as(name.removesuffix(SEALED), sealed=True)}` keeps {kept:.2f} of its rate when sealed."
        for name, kept in sealed.items()
    ]
    return " ".join(sentences)


def _rate(summary: Summary, name: str) -> str:
    return f"{summary[name]['devices_per_second'].median:,.0f}" if name in summary else ""


def _ratio(summary: Summary, name: str) -> str:
    ratio: Spread | None = summary.get(name, {}).get("of_floor")
    return f"{ratio.median:.2f}" if ratio else ""


def _growth(results: Results) -> Iterator[str]:
    if "growth" not in results.sections:
        return
    summary = results.sections["growth"].summary
    yield "| devices, `parquet` | seconds, shell to shell | devices/s once started | parent's memory | a worker's |"
    yield "| ---: | ---: | ---: | ---: | ---: |"
    for name in (name for name in summary if name.isdigit()):
        figures = {figure: value.median for figure, value in summary[name].items()}
        yield (
            f"| {int(name):,} | {figures['wall_seconds']:.1f} | {figures['devices_per_second']:,.0f} "
            f"| {figures['parent_peak_octets'] / 1e6:,.0f} MB | {figures['worker_peak_octets'] / 1e6:,.0f} MB |"
        )


def _most(results: Results) -> Iterator[str]:
    """The most devices that growth was measured with, by format and engine."""
    if "growth" not in results.sections:
        return
    summary = results.sections["growth"].summary
    most = max(int(name) for name in summary if name.isdigit())
    names = [name for name in LABELS if name in summary]
    workers = results.sections["growth"].settings["workers"][-1]
    yield f"| {most:,} devices, {workers} processes | devices/s | of the floor | seconds, shell to shell |"
    yield "| --- | ---: | ---: | ---: |"
    for name in names:
        wall = summary[name].get("wall_seconds")
        seconds = f"{wall.median:.1f}" if wall else ""
        yield f"| {LABELS[name]} | {_rate(summary, name)} | {_ratio(summary, name)} | {seconds} |"


def _tokens(results: Results) -> Iterator[str]:
    sections = [(int(name.removeprefix("hsm-")), part) for name, part in results.sections.items() if "hsm-" in name]
    if not sections:
        return
    sections.sort(key=lambda pair: pair[0])
    header, rule = "| the CA's key in a SoftHSM token", "| --- |"
    for workers, _ in sections:
        header += f" | {workers} {'process' if workers == 1 else 'processes'}: per second | of the bare loop"
        rule += " ---: | ---: |"
    yield f"{header} |"
    yield rule
    for name in sections[-1][1].summary:
        cells = [TOKEN_LABELS[name]]
        for _, section in sections:
            ratio = section.summary[name].get("of_c_sign")
            cells += [_rate(section.summary, name), f"{ratio.median:.2f}" if ratio else ""]
        yield f"| {' | '.join(cells)} |"


def _others(results: Results) -> Iterator[str]:
    if "verify" in results.sections:
        section = results.sections["verify"]
        rates = ", ".join(
            f"{figures['devices_per_second'].median:,.0f}/s as `{name}`" for name, figures in section.summary.items()
        )
        yield f"`verify` of {section.settings['devices']:,} devices: {rates}."
    if "handshakes" in results.sections:
        yield _handshakes(results.sections["handshakes"])
    if "p12" in results.sections:
        yield _p12(results.sections["p12"])
    if "shell" in results.sections:
        parts = [
            f"`{name}` {figures['wall_seconds'].median:.2f} s"
            for name, figures in results.sections["shell"].summary.items()
        ]
        yield f"Shell to shell: {', '.join(parts)}."


def _p12(section: Section) -> str:
    rates = {name: figures["devices_per_second"].median for name, figures in section.summary.items()}
    more = ", ".join(f"{rate:,.0f}/s at {name}" for name, rate in rates.items() if name.endswith(" rounds"))
    return (
        f"`p12` with {section.settings['workers'][-1]} processes: {rates[P12]:,.0f}/s by one password, "
        f"{rates[P12_RANDOM]:,.0f}/s by one made for each device; a bare loop of key, signature and file "
        f"{rates[P12_LOOP]:,.0f}/s, all with 2,048 rounds of PBKDF2. The loop with more: {more}."
    )


def _handshakes(section: Section) -> str:
    probe, s_time = (section.summary[name]["handshakes_per_second"].median for name in (PROBE, S_TIME))
    ratio, processes = section.summary[PROBE]["of_s_time"].median, section.settings["workers"][-1]
    return (
        f"`gateway probe` against `gateway serve`, both on this machine: {probe:,.0f} devices/s, each with its own "
        f"key, a full mutual-TLS handshake and two requests; {processes} processes of `openssl s_time -new`, which "
        f"make handshakes alone with one key: {s_time:,.0f}/s (ratio {ratio:.2f})."
    )
