"""What to do with a finished run: sentences, and commands that can be copied."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_issuer.figures import counted
from batch_issuer.output.record import PER_DEVICE
from batch_issuer.stores.address import is_address

if TYPE_CHECKING:
    from batch_issuer.reporting.facts import Facts

__all__ = ["Step", "next_steps"]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do.

    Attributes:
        title: what.
        why: in a sentence or two.
        command: to be copied; empty if there is none.
    """

    title: str
    why: str
    command: str = ""


def next_steps(facts: Facts) -> list[Step]:
    """What to do, the most pressing first."""
    record, out = facts.record, _quoted(facts.outcome.out)
    steps = [_verify(facts, out)]
    if facts.outcome.rejected:
        rejected = counted(facts.outcome.rejected, "row")
        steps.append(
            Step(
                "Mend the rejected rows",
                f"{rejected} of the manifest got no certificate; rejects.csv says why. Put the mended rows, and no"
                " others, into a manifest of their own and issue that into a new folder.",
                f"batch-issuer issue --manifest mended.csv --pki {_quoted(str(facts.pki))} --out NEW"
                + ("" if record.ledger_run is None else " --ledger FILE"),
            )
        )
    if record.p12_passwords == PER_DEVICE:
        steps.append(
            Step(
                "Part the passwords from the bundles",
                "p12-passwords.csv opens every bundle of this run. Move it to another place than the bundles go to.",
                f"mv {out}/p12-passwords.csv /a/place/of/its/own/",
            )
        )
    if facts.outcome.reissued:
        steps.append(
            Step(
                "Mind the devices that were issued again",
                f"{counted(facts.outcome.reissued, 'device')} had a certificate of an earlier run. A gateway that knows"
                " a device by another key turns it away until the device is deleted there.",
            )
        )
    steps += [_secret(facts), _hand_over(facts, out), _register(facts, out), _expiry(facts)]
    return steps


def _verify(facts: Facts, out: str) -> Step:
    signed = " and who signed them" if facts.record.signer is not None else ""
    opened = " --identity FILE" if facts.record.seal_to else ""
    return Step(
        "Verify it",
        "This page shows what the program says that it did. That it is so is checked by other code, which reads every"
        f" certificate, key, bundle and sum{signed}.",
        f"batch-issuer verify {out} --pki {_quoted(str(facts.pki))}{opened}",
    )


def _secret(facts: Facts) -> Step:
    record = facts.record
    if record.csr_rows == record.accepted:
        why = "No private key is in this run: every device keeps its own."
    elif record.seal_to:
        why = f"The bundles are sealed; the identities of {counted(len(record.seal_to), 'recipient')} open them."
    elif record.p12_passwords is not None:
        why = (
            "The bundles hold private keys, each behind a password. Keep the two apart, and delete what is handed over."
        )
    else:
        why = (
            "The bundles hold private keys in the clear. Keep the folder to its owner, and delete what is handed over."
        )
    return Step("Keep the bundles safe", why)


def _hand_over(facts: Facts, out: str) -> Step:
    return Step(
        "Bring the bundles to the devices",
        "A device takes its files into /var/sota. extract makes such a folder out of a run of any format.",
        f"batch-issuer extract {out} --all --to bundles{_opened(facts)}",
    )


def _register(facts: Facts, out: str) -> Step:
    why = "Devices can be created at the factory's API before they first call, with name and group."
    if is_address(facts.outcome.out):
        why += " register reads a folder: copy the run out of the store first, with umask 077."
        out = "COPY"
    return Step(
        "Register them, if the factory wants it",
        why,
        f"batch-issuer register {out} --api URL --token-file FILE{_opened(facts)} --dry-run",
    )


def _opened(facts: Facts) -> str:
    """What opens the bundles, for commands that come after the passwords were moved away."""
    if facts.record.p12_passwords == PER_DEVICE:
        return " --p12-passwords FILE"
    return " --identity FILE" if facts.record.seal_to else ""


def _expiry(facts: Facts) -> Step:
    return Step(
        "Plan their renewal",
        f"Every certificate of this run ends on {facts.record.ends:%Y-%m-%d}.",
    )


def _quoted(path: str) -> str:
    return shlex.quote(f"./{path}" if path.startswith("-") else path)
