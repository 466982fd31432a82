"""The page as a whole: one file, no script, and a policy under which a browser loads nothing at all."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from batch_issuer.figures import counted
from batch_issuer.reporting.charts import rate_chart, timeline
from batch_issuer.reporting.facts import clock, duration, per_second
from batch_issuer.reporting.markup import Html, joined, table, tag
from batch_issuer.reporting.sections import account, asked, came_out, rejected, tiles, to_do
from batch_issuer.reporting.trust import chain, validity

if TYPE_CHECKING:
    from batch_issuer.reporting.facts import Facts
    from batch_issuer.reporting.times import Session

__all__ = ["page"]

_STYLE = Path(__file__).with_name("report.css")


def page(facts: Facts) -> bytes:
    """The whole page, UTF-8.

    Args:
        facts: what it shows.
    """
    style, policy = _style()
    title = f"{counted(facts.outcome.devices, 'device certificate')} issued"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="robots", content="noindex"),
        tag("title", f"{title} - {facts.record.factory}"),
        tag("style", style),
    )
    body = tag("body", _header(facts, title), tag("main", *_sections(facts)), _footer(facts))
    return (f"<!doctype html>\n{tag('html', head, body, lang='en')}\n").encode()


@cache
def _style() -> tuple[Html, str]:
    """The style sheet; and the policy that allows it, by its digest, and nothing else (CSP Level 3, section 2.3.1)."""
    text = _STYLE.read_text()
    digest = b64encode(sha256(text.encode()).digest()).decode()
    return Html(text), f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _header(facts: Facts, title: str) -> Html:
    state = tag("span", "complete", class_="badge good")
    if facts.outcome.rejected:
        state = tag("span", f"complete, {counted(facts.outcome.rejected, 'row')} rejected", class_="badge bad")
    begun = f", begun {clock(facts.sessions[0].began)}" if facts.sessions and facts.sessions[0].number == 1 else ""
    return tag(
        "header",
        tag("p", "batch-issuer · run report", class_="product"),
        tag("h1", title, " ", state),
        tag("p", tag("strong", facts.record.factory), f", by {facts.record.ca_name}{begun}", class_="lead"),
        tiles(facts),
        account(facts),
    )


def _sections(facts: Facts) -> list[Html]:
    return [
        _section("asked", "What was asked", asked(facts)),
        _section("out", "What came out", came_out(facts)),
        _section("rate", "Rate over time", _rate(facts)),
        _section("parts", "Parts and workers", _parts(facts)),
        _section("rejects", "Rejected rows", rejected(facts)),
        _section("trust", "Validity and chain", joined(validity(facts), chain(facts))),
        _section("next", "What to do next", to_do(facts)),
    ]


def _section(name: str, title: str, *content: Html) -> Html:
    return tag("section", tag("h2", title, id=f"{name}-heading"), *content, aria_labelledby=f"{name}-heading")


def _rate(facts: Facts) -> Html:
    if not facts.sessions:
        return tag("p", "Not known: the commit records of this run do not say when its parts were made.")
    return joined(
        rate_chart(facts.sessions),
        tag(
            "p",
            tag("strong", "The floor"),
            " is what as many processes would come to with keys and the CA's signatures alone, no certificate and no"
            " file. It is timed while the run goes on, in one part of eight, over what these sign anyway.",
            class_="note",
        ),
        _seconds(facts),
    )


def _seconds(facts: Facts) -> Html:
    spent = facts.outcome
    steps = [
        ("plan", spent.plan_seconds, "read and check everything"),
        ("start", spent.start_seconds, "wait for the first worker"),
        ("issue", spent.issue_seconds, "make, commit and publish parts"),
        ("finish", spent.finish_seconds, "manifest and sums, up to this page"),
    ]
    rows = [(name, what, duration(seconds)) for name, seconds, what in steps]
    return table("Time of the last command, by step", ("Step", "What it does", "Time"), rows, numbers=frozenset({2}))


def _parts(facts: Facts) -> Html:
    times, pieces = facts.times, []
    hidden = times.commands - len(facts.sessions)
    if times.commands > 1:
        told = f"The run was made by {counted(times.commands, 'command')}: it was interrupted and resumed."
        pieces.append(tag("p", told + (f" The last {len(facts.sessions)} are shown." if hidden else "")))
    if times.unknown:
        told = f"When {counted(times.unknown, 'part')} of {times.parts:,} were made is not known."
        pieces.append(tag("p", told))
    for session in facts.sessions:
        if times.commands > 1:
            pieces.append(tag("h3", f"Command {session.number}, {clock(session.began)}"))
        pieces += [timeline(session), _workers(session)]
    return joined(*pieces)


def _workers(session: Session) -> Html:
    rows = [
        (
            f"worker {number}",
            f"{lane.parts:,}",
            f"{lane.devices:,}",
            duration(lane.busy),
            duration(lane.busy / lane.parts),
            duration(lane.slowest),
            f"{lane.busy / session.seconds:.0%}" if session.seconds else "—",
            per_second(lane.devices / lane.busy) if lane.busy else "—",
        )
        for number, lane in enumerate(session.lanes, 1)
    ]
    more = session.workers - len(session.lanes)
    if more:
        parts = session.parts - sum(lane.parts for lane in session.lanes)
        devices = session.devices - sum(lane.devices for lane in session.lanes)
        rows.append((f"{more:,} more", f"{parts:,}", f"{devices:,}", *("—",) * 5))
    head = ("Worker", "Parts", "Devices", "At work", "Each part", "Slowest", "Share of time", "Rate")
    caption = f"Workers of command {session.number}"
    return table(caption, head, rows, numbers=frozenset(range(1, len(head))))


def _footer(facts: Facts) -> Html:
    vouched = "SHA256SUMS has this page's digest"
    if facts.record.signer is not None:
        vouched += f", and SHA256SUMS.sig is {facts.record.signer}'s signature over that"
    return tag(
        "footer",
        tag("p", f"{vouched}. The page holds no key, password or PIN, runs no script and loads nothing."),
    )
