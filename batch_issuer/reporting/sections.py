"""The page's sections in words: what was asked, what came out, what was rejected, what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_issuer.figures import counted
from batch_issuer.output.record import PER_DEVICE
from batch_issuer.reporting.facts import duration, per_second
from batch_issuer.reporting.markup import Html, joined, table, tag
from batch_issuer.reporting.next_steps import next_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_issuer.devices import Rejection
    from batch_issuer.reporting.facts import Facts

__all__ = ["account", "asked", "came_out", "rejected", "tiles", "to_do"]

_MOST_REASONS = 12
_SEEN = 0.5
"""What a few rejected rows among millions get of the bar, percent."""
_SHOWN_RECIPIENTS = 5


def tiles(facts: Facts) -> Html:
    """The run in four figures."""
    outcome, share = facts.outcome, facts.of_floor
    speed = per_second(outcome.devices_per_second) if outcome.devices_now else "—"
    beside = "no keys were made by the last command"
    if outcome.devices_now:
        beside = "floor not known: too few devices" if share is None else f"{share:.0%} of the floor"
    made_by = "each worker's fastest engine" if outcome.key_engine == "auto" else outcome.key_engine
    workers = f"{counted(outcome.workers, 'worker')}, keys by {made_by}"
    row = [
        ("issued", f"{outcome.devices:,}", f"in {counted(facts.record.parts, 'part')}, as {facts.record.format}", ""),
        (
            "rejected",
            f"{outcome.rejected:,}",
            f"of {counted(facts.record.rows, 'row')}",
            "bad" if outcome.rejected else "",
        ),
        ("rate", speed, beside, ""),
        ("time", duration(facts.seconds), workers, ""),
    ]
    return tag(
        "dl",
        *(
            tag(
                "div",
                tag("dt", name),
                tag("dd", value, class_="big"),
                tag("dd", note, class_="note"),
                class_=kind or "tile",
            )
            for name, value, note, kind in row
        ),
        class_="tiles",
    )


def account(facts: Facts) -> Html:
    """Every row of the manifest, once: issued or rejected."""
    rows, issued, bad = facts.record.rows, facts.outcome.devices, facts.outcome.rejected
    share = min(100.0 * issued / rows, 100.0 - _SEEN) if bad else 100.0
    sentence = f"{counted(rows, 'row')} read = {issued:,} issued + {bad:,} rejected"
    bar = tag(
        "svg",
        tag("rect", x="0%", y=0, width=f"{share:.3f}%", height=10, class_="block good"),
        tag("rect", x=f"{share:.3f}%", y=0, width=f"{100 - share:.3f}%", height=10, class_="block badbar"),
        width="100%",
        height=10,
        aria_hidden="true",
    )
    return tag("div", tag("p", sentence), bar, class_="account")


def asked(facts: Facts) -> Html:
    """What the run was asked, as `run.json` has it."""
    record = facts.record
    name = "standard input" if record.manifest == "-" else record.manifest
    pairs = [
        ("Manifest", joined(name, f" ({record.manifest_kind}, {counted(record.rows, 'row')})")),
        ("Its SHA-256", tag("code", record.manifest_sha256)),
        ("Factory", record.factory),
        ("Issued by", f"{record.ca_name} of {facts.pki}"),
        ("Valid from", f"{record.starts:%Y-%m-%d %H:%M:%S} UTC"),
        ("Valid until", f"{record.ends:%Y-%m-%d %H:%M:%S} UTC"),
        ("Asked for", f"{counted(record.days, 'day')}, backdated by {duration(record.backdate)}"),
        ("Production", "yes, unless a row says otherwise" if record.production else "no, unless a row says otherwise"),
        ("Format", f"{record.format}, up to {counted(record.part_size, 'device')} per part"),
        ("Keys", _keys(facts)),
    ]
    if record.p12_passwords is not None:
        made = "one made for each device" if record.p12_passwords == PER_DEVICE else "one for all, given"
        pairs.append(("Passwords", made))
    if record.seal_to:
        shown = [tag("code", one) for one in record.seal_to[:_SHOWN_RECIPIENTS]]
        more = len(record.seal_to) - len(shown)
        pairs.append(("Sealed to", joined(*shown, f" and {more} more" if more else "")))
    if record.gateway is not None:
        pairs.append(("sota.toml", f"gateway {record.gateway}, ostree {record.ostree}"))
    if record.hardware_id is not None:
        pairs.append(("Hardware id", record.hardware_id + ("" if record.tag is None else f", tag {record.tag}")))
    if record.device_hsm_module is not None:
        pairs.append(("Device HSM", record.device_hsm_module))
    pairs += [
        ("Rejected rows", "issue the others" if record.skip_rejects else "refuse the whole run"),
        (
            "Ledger",
            "none"
            if record.ledger_run is None
            else f"run {record.ledger_run}" + (", issuing again" if record.reissue else ""),
        ),
        ("SHA256SUMS", f"signed by {record.signer}" if record.signer else "not signed"),
        ("Program", f"batch-issuer {record.version}"),
    ]
    return tag("dl", *(tag("div", tag("dt", key), tag("dd", value)) for key, value in pairs), class_="facts")


def _keys(facts: Facts) -> str:
    kept = facts.record.csr_rows
    made = facts.record.accepted - kept
    if not kept:
        return f"P-256, {made:,} made here"
    return f"P-256, {made:,} made here, {kept:,} kept by devices that brought a CSR"


def came_out(facts: Facts) -> Html:
    """The files of the run, and who judged it."""
    record = facts.record
    files = [
        ("bundles/", f"{counted(record.parts, 'part')} as {record.format}: certificates" + _with_keys(facts), "yes"),
        (f"manifest.{record.manifest_format}", "a row for every device that was issued", "yes"),
    ]
    if facts.outcome.rejected:
        files.append(("rejects.csv", "a row for every finding about the manifest", "yes"))
    if record.p12_passwords == PER_DEVICE:
        files.append(("p12-passwords.csv", "each bundle's password; to be kept elsewhere", "no"))
    files += [
        ("report.html", "this page", "yes"),
        ("run.json", "what was asked", "yes"),
        ("summary.json", "counts and times", "yes"),
        ("SHA256SUMS", "the SHA-256 of each of these files", "signed" if record.signer else "—"),
    ]
    if record.signer is not None:
        files.append(("SHA256SUMS.sig", f"{record.signer}'s signature over it (CMS, DER)", "—"))
    judged = "Nobody beside this program was asked about the first certificate."
    if facts.outcome.linted_by is not None:
        judged = f"{facts.outcome.linted_by} found no error in the run's first certificate."
    return joined(
        table("Files of this run", ("File", "What it is", "In SHA256SUMS"), files, numbers=frozenset()),
        tag("p", judged),
        *(tag("p", tag("strong", "Warning: "), warning, class_="warning") for warning in facts.outcome.warnings),
    )


def _with_keys(facts: Facts) -> str:
    if facts.record.csr_rows == facts.record.accepted:
        return ", and no key"
    return " and private keys, sealed" if facts.record.seal_to else " and private keys"


def rejected(facts: Facts) -> Html:
    """Findings by reason, the most frequent first, with examples."""
    tally = facts.tally
    if not tally.counts:
        return tag("p", "None: every row of the manifest was issued.")
    reasons = tally.counts.most_common()
    pieces = [
        tag(
            "p",
            f"{counted(facts.outcome.rejected, 'row')} with {counted(sum(tally.counts.values()), 'finding')};"
            " rejects.csv has all of them.",
        )
    ]
    most = reasons[0][1]
    pieces += [_reason(code, count, most, tally.examples[code]) for code, count in reasons[:_MOST_REASONS]]
    if len(reasons) > _MOST_REASONS:
        left = sum(count for _, count in reasons[_MOST_REASONS:])
        pieces.append(
            tag("p", f"{counted(left, 'finding')} of {counted(len(reasons) - _MOST_REASONS, 'other reason')}.")
        )
    return joined(*pieces)


def _reason(code: str, count: int, most: int, found: Sequence[Rejection]) -> Html:
    """One reason's count, beside that of the most frequent one, and its examples."""
    bar = tag(
        "svg",
        tag("rect", x="0%", y=0, width=f"{max(100.0 * count / most, 0.5):.2f}%", height=8, class_="block badbar"),
        width="100%",
        height=8,
        aria_hidden="true",
    )
    examples = [tag("li", one.message) for one in found]
    if count > len(found):
        examples.append(tag("li", f"… and {count - len(found):,} more", class_="note"))
    heading = tag("h3", tag("code", code), tag("span", f"{count:,}", class_="count"))
    return tag("article", heading, bar, tag("ul", *examples), class_="reason")


def to_do(facts: Facts) -> Html:
    """What to do next."""
    items = [
        tag(
            "li",
            tag("h3", step.title),
            tag("p", step.why),
            *([tag("pre", tag("code", step.command), tabindex="0")] if step.command else []),
        )
        for step in next_steps(facts)
    ]
    return tag("ol", *items, class_="steps")
