"""What people use today, measured beside `issue`: everybody's certificates are right, or nothing is measured."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pki import make_pki

from batch_issuer.errors import RunFailedError

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # benchmarks is not installed; last, so that the package that is tested is found first

from benchmarks import results  # noqa: E402
from benchmarks.peers import tables  # noqa: E402
from benchmarks.peers.__main__ import CHART, DOCUMENTS, RESULTS  # noqa: E402
from benchmarks.peers.facts import after_kill, count_syncs, peer_facts, probe_requests  # noqa: E402
from benchmarks.peers.own import OWN  # noqa: E402
from benchmarks.peers.recipes import PEERS, lacking  # noqa: E402
from benchmarks.peers.running import judge, prepared  # noqa: E402

if TYPE_CHECKING:
    from benchmarks.peers.recipes import Peer

UUIDS = ["f6fadfa7-e5c1-4b62-9362-da5cc13da58a", "d015b0dc-2c63-488f-a8f0-04817e6ddce7"]
THERE = [peer for peer in PEERS if not lacking(peer)]
peers = pytest.mark.parametrize("peer", THERE, ids=lambda peer: peer.name)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of now: the peers know no other time."""
    return make_pki(tmp_path_factory.mktemp("peers") / "pki", factory="bench", now=datetime.now(UTC))


def peer_called(name: str) -> Peer:
    return next(peer for peer in PEERS if peer.name == name)


@peers
def test_a_peer_makes_certificates_that_openssl_accepts(peer: Peer, tmp_path: Path, pki: Path) -> None:
    with prepared(peer, tmp_path, pki) as folder:
        assert folder.issue(UUIDS, 1 if peer.alone else 2) > 0
        judge(folder, UUIDS, pki)
        for uuid in UUIDS:
            chain: tuple[str | Path, ...] = ("-CAfile", pki / "factory_ca.pem", "-untrusted", pki / "local-ca.pem")
            command = ["openssl", "verify", "-purpose", "sslclient", *chain, folder.certificate(uuid)]
            assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.endswith(": OK\n")
    assert list(tmp_path.iterdir()) == []


@peers
def test_a_peer_that_signs_by_another_ca_is_refused(peer: Peer, tmp_path: Path, pki: Path) -> None:
    other = make_pki(tmp_path / "other", factory="bench", now=datetime.now(UTC))
    with prepared(peer, tmp_path, other) as folder:
        folder.issue(UUIDS[:1])
        with pytest.raises(RunFailedError, match=rf"^openssl verify refuses what {re.escape(peer.name)} made"):
            judge(folder, UUIDS[:1], pki)


def test_a_missing_file_and_another_key_are_found(tmp_path: Path, pki: Path) -> None:
    with prepared(peer_called("openssl, one command"), tmp_path, pki) as folder:
        folder.issue(UUIDS)
        folder.key(UUIDS[0]).rename(folder.key(UUIDS[1]))
        with pytest.raises(RunFailedError, match=r"made no key or certificate for 1 devices$"):
            judge(folder, UUIDS, pki)
        with pytest.raises(RunFailedError, match=rf"for another key or device than {UUIDS[1]}$"):
            judge(folder, UUIDS[1:], pki)


def test_a_peer_that_fails_is_told_with_its_words(tmp_path: Path, pki: Path) -> None:
    broken = replace(peer_called("openssl, one command"), each="echo it does not work; false")
    with prepared(broken, tmp_path, pki) as folder:
        with pytest.raises(RunFailedError, match=r"ended with exit codes \[1\]: it does not work$"):
            folder.issue(UUIDS)
    with pytest.raises(RunFailedError, match=r"the setup of .* ended with exit code 7"):
        with prepared(replace(broken, setup="exit 7"), tmp_path, pki):
            pass


def test_what_is_not_installed_is_said() -> None:
    peer = peer_called("certtool")
    assert lacking(replace(peer, needs=("no-such-tool",))) == "no-such-tool is not installed (Debian's gnutls-bin)"
    assert lacking(replace(peer, needs=("python:no_such_package",), source="pip")) == (
        "no_such_package is not installed (pip)"
    )
    assert lacking(replace(peer, needs=("sh",))) is None


def test_facts_are_tried_out(tmp_path: Path, pki: Path) -> None:
    """By a peer whose behaviour is in its own few lines here."""
    loop = replace(peer_called("openssl, one command"), sign="cp nothing signed.pem")
    with pytest.raises(RunFailedError, match=r"does not sign a good CSR: .*nothing"):
        peer_facts(loop, tmp_path, pki, UUIDS)
    many = [f"{number:08x}{UUIDS[0][8:]}" for number in range(12)]
    facts = peer_facts(peer_called("openssl, one command"), tmp_path, pki, many)
    assert (facts.profile, facts.key_mode, facts.twice) == ("", "0600", "issued twice")
    assert facts.killed == "makes all anew"
    careful = replace(loop, each=f'test -e "$uuid.pem" || {{ {loop.each}; chmod 0644 "$uuid.key"; }}', sign="")
    facts = peer_facts(careful, tmp_path, pki, many)
    assert (facts.key_mode, facts.requests, facts.killed) == ("0644", "", "goes on")


def test_the_requests_are_what_they_are_called() -> None:
    verify = ("openssl", "req", "-verify", "-noout", "-text")
    said = {
        kind: subprocess.run(verify, input=pem, capture_output=True, check=False)
        for kind, pem in probe_requests(UUIDS[0]).items()
    }
    assert list(said) == ["good", "broken signature", "P-384 key"]
    assert b"verify failure" in said["broken signature"].stderr
    assert b"verify failure" not in said["good"].stderr + said["P-384 key"].stderr
    assert b"P-384" in said["P-384 key"].stdout
    assert b"P-256" in said["good"].stdout


@pytest.mark.parametrize(
    ("code", "replaced", "missing", "word"),
    [
        (0, 3, 0, "makes all anew"),
        (1, 0, 3, "stops at the first that is there"),
        (0, 0, 1, "leaves some without"),
        (0, 0, 0, "goes on"),
    ],
)
def test_a_second_start_is_named(code: int, replaced: int, missing: int, word: str) -> None:
    assert after_kill(code, replaced, missing) == word


def test_finished_syncs_are_counted(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text(
        "7 fsync(3) = 0\n8 syncfs(4 <unfinished ...>\n8 <... syncfs resumed>) = 0\n7 +++ exited with 0 +++\n"
    )
    assert count_syncs(trace) == 2


def test_the_whole_with_what_is_installed(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    path = tmp_path / "peers.json"
    code = f"import sys; sys.path.append({str(ROOT)!r}); from benchmarks.peers.__main__ import main; main()"
    options = ["--devices", "8", "--rounds", "1", "--workers", "2", "--dir", tmp_path / "here", "--results", path]
    done = subprocess.run([sys.executable, "-c", code, *map(str, options)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "here").iterdir()) == []
    found = results.read(path)
    assert list(found.sections) == ["peers-1", "peers-2"]
    names = [peer.name for peer in THERE]
    one, two = found.sections["peers-1"], found.sections["peers-2"]
    assert list(one.summary) == [*names, *OWN]
    assert list(two.summary) == [*(peer.name for peer in THERE if not peer.alone), *OWN]
    assert set(one.settings["left_out"]) == {peer.name for peer in PEERS} - set(names)
    facts = one.settings["facts"]
    assert list(facts) == [*names, tables.REFERENCE]
    own = facts[tables.REFERENCE]
    assert (own["profile"], own["key_mode"], own["twice"], own["killed"]) == ("", "0600", "refused", "goes on")
    assert own["requests"] == "broken signature refused, P-384 key refused"
    page = tmp_path / "page.md"
    page.write_text("<!-- peers:rates -->\n<!-- /peers -->\nand\n<!-- peers:facts -->\n<!-- /peers -->\nend\n")
    tables.update(page, found)
    text = page.read_text()
    assert text.count("\n| openssl") == 6
    assert "**batch-issuer**, `dir` | 8 |" in text
    tables.update(page, found)
    assert page.read_text() == text


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("nothing\n")
    with pytest.raises(ValueError, match=r"^page\.md has no <!-- peers:rates -->"):
        tables.update(tmp_path / "page.md", results.read(RESULTS))


def test_the_documents_show_the_results(tmp_path: Path) -> None:
    for document in DOCUMENTS:
        page = tmp_path / document.name
        page.write_text(document.read_text())
        tables.update(page, results.read(RESULTS))
        assert page.read_text() == document.read_text()
    assert CHART.is_file()


def test_the_chart_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.peers.chart import draw

    draw(results.read(RESULTS), tmp_path / "peers.png")
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")
