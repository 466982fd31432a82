"""Who vouches for whom, and until when: the chain as nested cards, the validities as bars over one line of years."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from batch_issuer.figures import counted
from batch_issuer.reporting.charts import drawing
from batch_issuer.reporting.markup import Html, tag

if TYPE_CHECKING:
    from datetime import datetime

    from batch_issuer.reporting.facts import Facts

__all__ = ["chain", "validity"]

_ROW, _BAR, _FOOT = 46, 12, 26
_MOST_TICKS = 7
_TICK_YEARS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
_THINNEST = 0.4
_WHOLE, _LATE = 100.0, 90.0


@dataclass(frozen=True, slots=True)
class _Link:
    """A certificate of the chain."""

    role: str
    subject: str
    starts: datetime
    ends: datetime
    serial: str = ""
    fingerprint: str = ""


def chain(facts: Facts) -> Html:
    """Root, device CA and devices, each inside what vouches for it; the signer beside the CA."""
    root, ca, signer = _certificates(facts)
    devices = tag(
        "div",
        tag("p", "devices", class_="role"),
        tag("p", counted(facts.outcome.devices, "certificate"), class_="subject"),
        tag("p", f"CN = the device's UUID, OU = {facts.record.factory}", class_="detail"),
        class_="card leaf",
    )
    below = [tag("li", _card(ca), tag("ol", tag("li", devices)))]
    if signer is not None:
        below.append(tag("li", _card(signer, "signed SHA256SUMS of this run")))
    return tag("ol", tag("li", _card(root), tag("ol", *below)), class_="chain")


def validity(facts: Facts) -> Html:
    """From when to when each certificate is valid, and the moment of the run."""
    record = facts.record
    links = [link for link in _certificates(facts) if link is not None]
    links.append(_Link("devices", counted(facts.outcome.devices, "device"), record.starts, record.ends))
    first, last = min(link.starts for link in links), max(link.ends for link in links)
    whole = (last - first) / timedelta(days=1) or 1.0

    def x(moment: datetime) -> float:
        return 100.0 * ((moment - first) / timedelta(days=1)) / whole

    height = len(links) * _ROW + _FOOT
    base = height - _FOOT
    pieces = [
        piece
        for year in _years(first, last)
        for left in [x(first.replace(year=year, month=1, day=1))]
        if 0 <= left <= _WHOLE
        for piece in (
            tag("line", x1=f"{left:.2f}%", x2=f"{left:.2f}%", y1=0, y2=base, class_="grid"),
            tag("text", str(year), x=f"{left:.2f}%", y=base + 18, class_="label " + ("end" if left > _LATE else "")),
        )
    ]
    for number, link in enumerate(links):
        y, left = number * _ROW + 16, x(link.starts)
        span = f"{link.starts:%Y-%m-%d} to {link.ends:%Y-%m-%d}"
        pieces += [
            tag("text", link.role, x="0%", y=y, class_="label strong halo"),
            tag("text", span, x="100%", y=y, class_="label end halo"),
            tag(
                "rect",
                tag("title", f"{link.role}: {span}"),
                x=f"{left:.2f}%",
                y=y + 7,
                width=f"{max(x(link.ends) - left, _THINNEST):.2f}%",
                height=_BAR,
                class_="block " + ("leafbar" if number == len(links) - 1 else "shade1"),
            ),
        ]
    pieces.append(tag("line", x1="0%", x2="100%", y1=base, y2=base, class_="axis"))
    told = " ".join(f"{link.role}: {link.starts:%Y-%m-%d} to {link.ends:%Y-%m-%d}." for link in links)
    return drawing("validity", "Validity of each certificate", told, height, *pieces)


def _card(link: _Link, note: str = "") -> Html:
    return tag(
        "div",
        tag("p", link.role, class_="role"),
        tag("p", link.subject, class_="subject"),
        *([tag("p", note, class_="detail")] if note else []),
        tag("p", "serial ", tag("code", link.serial), class_="detail"),
        tag("p", "SHA-256 ", tag("code", link.fingerprint), class_="detail"),
        class_="card",
    )


def _certificates(facts: Facts) -> tuple[_Link, _Link, _Link | None]:
    record = facts.record
    signer = None
    if record.signer is not None and record.signer_certificate is not None:
        signer = _link(f"signer {record.signer}", record.signer_certificate)
    return _link("root", record.root_certificate), _link(record.ca_name, record.ca_certificate), signer


def _link(role: str, pem: str) -> _Link:
    certificate = x509.load_pem_x509_certificate(pem.encode())
    return _Link(
        role,
        certificate.subject.rfc4514_string(),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        f"{certificate.serial_number:x}",
        certificate.fingerprint(hashes.SHA256()).hex(),
    )


def _years(first: datetime, last: datetime) -> range:
    years = last.year - first.year
    step = next((step for step in _TICK_YEARS if years / step <= _MOST_TICKS), _TICK_YEARS[-1])
    begin = -(-first.year // step) * step
    return range(begin, last.year + 1, step)
