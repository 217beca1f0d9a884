"""Checking packs: the golden one holds for ever, no changed byte is accepted, and a signed lie contradicts itself."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.conftest import ROOT
from tests.report.test_html import Page

from quantum_trader.core.errors import ProofError
from quantum_trader.release.dsse import seal, unseal
from quantum_trader.release.proof_verify import Computed, verify_pack
from quantum_trader.release.signing import SigningKey, VerifyKey, generate, load_public
from quantum_trader.release.statement import PAYLOAD_TYPE, hash_files, make_statement, read_statement
from quantum_trader.report.proof import Predicate
from quantum_trader.report.proof_page import pages

GOLDEN = ROOT / "tests" / "golden" / "proof"
CHANGES = 1000


@pytest.fixture(scope="module")
def key() -> VerifyKey:
    return load_public(GOLDEN / "signing-key.pub.pem")


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return generate(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    shutil.copytree(GOLDEN / "pack", tmp_path / "pack")
    return tmp_path / "pack"


def predicate_of(folder: Path, key: VerifyKey) -> Predicate:
    raw = (folder / "statement.json").read_bytes()
    return read_statement(unseal(raw, PAYLOAD_TYPE, key, "it")).predicate


class TestTheGoldenPack:
    def test_holds(self, key: VerifyKey) -> None:
        report = verify_pack(GOLDEN / "pack", key)
        assert report.holds, report.computed
        counted = {one.name: one.count for one in report.computed}
        assert counted["ledger chain and head"] == 3
        assert counted["artefact digests from their manifests"] == 4
        assert counted["decisions from their votes"] == 10
        assert counted["chain of predictions"] == 10
        assert counted["intents from their breakdowns and decisions"] > 0
        assert counted["pages for people"] == 2

    def test_has_another_verdict_only_where_another_program_judges(self, key: VerifyKey) -> None:
        raw = (GOLDEN / "pack" / "outputs" / "verdict-patchtst.json").read_bytes()
        made_by = predicate_of(GOLDEN / "pack", key).maker["code"]

        def verdict(code: int, out: bytes, program: str) -> Computed:
            report = verify_pack(GOLDEN / "pack", key, lambda *_: (code, out), program)
            return next(one for one in report.computed if one.name == "verdict on patchtst")

        assert verdict(3, raw, made_by) == Computed("verdict on patchtst", 1, ())
        assert "another verdict (exit code 0)" in verdict(0, raw, made_by).problems[0]
        assert verdict(3, raw + b" ", made_by).problems
        assert "made by another program; this one ends with exit code 2" in verdict(2, raw, "f" * 64).left_out

    def test_pages_are_whole_html_and_name_every_command(self, key: VerifyKey) -> None:
        text = (GOLDEN / "pack" / "PROOF_PACK.html").read_text()
        page = Page(text)
        assert not any(tag == "script" for tag, _ in page.tags)
        addresses = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href")]
        assert all(str(value).startswith(("data:", "#")) for value in addresses)
        markdown = (GOLDEN / "pack" / "PROOF_PACK.md").read_text()
        for run in predicate_of(GOLDEN / "pack", key).commands:
            assert run.title in page.words
            assert f"### {run.name}: {run.title}" in markdown
            assert run.stdout_sha256 in page.words
            assert run.stdout_sha256 in markdown


def test_a_thousand_changed_bytes_are_all_refused_and_their_files_named(pack: Path, key: VerifyKey) -> None:
    rng = np.random.default_rng(20260110)
    files = sorted(path for path in pack.rglob("*") if path.is_file() and path.stat().st_size)
    sizes = np.array([path.stat().st_size for path in files])
    # Half by size, half file by file, so that small ones are hit as well.
    chosen = np.concatenate(
        [rng.choice(len(files), CHANGES // 2, p=sizes / sizes.sum()), rng.integers(0, len(files), CHANGES // 2)]
    )
    assert set(chosen.tolist()) == set(range(len(files)))
    for index in chosen.tolist():
        path = files[index]
        whole = path.read_bytes()
        at = int(rng.integers(0, len(whole)))
        changed = bytes([whole[at] ^ int(rng.integers(1, 256))])
        path.write_bytes(whole[:at] + changed + whole[at + 1 :])
        with pytest.raises(ProofError) as refusal:
            verify_pack(pack, key)
        assert str(refusal.value).startswith(f"{path.relative_to(pack).as_posix()}: ")
        path.write_bytes(whole)
    assert verify_pack(pack, key).holds


def test_every_byte_of_the_statement_counts(pack: Path, key: VerifyKey) -> None:
    path = pack / "statement.json"
    whole = path.read_bytes()
    for at in [*range(0, len(whole), 97), *range(len(whole) - 260, len(whole))]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(ProofError):
            verify_pack(pack, key)


def cut(folder: Path) -> None:
    path = folder / "outputs" / "decisions.jsonl"
    path.write_bytes(path.read_bytes()[:-1])


def link(folder: Path) -> None:
    path = folder / "outputs" / "bars.jsonl"
    path.rename(folder.parent / "bars.jsonl")
    path.symlink_to(folder.parent / "bars.jsonl")


def swap(folder: Path) -> None:
    one, other = folder / "outputs" / "decisions.jsonl", folder / "outputs" / "intents.jsonl"
    one.rename(folder / "x")
    other.rename(one)
    (folder / "x").rename(other)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "outputs" / "clock.txt").unlink(), "outputs/clock.txt: is missing from the pack"),
        (lambda folder: (folder / "statement.json").unlink(), "statement.json: cannot be read"),
        (lambda folder: (folder / "note.txt").touch(), "note.txt: does not belong to the pack"),
        (lambda folder: (folder / "outputs" / ".hidden").touch(), r"outputs/\.hidden: does not belong"),
        (lambda folder: (folder / "empty").mkdir(), "empty: an empty folder"),
        (lambda folder: (folder / "PROOF_PACK.md").write_bytes(b""), "PROOF_PACK.md: was changed"),
        (cut, "outputs/decisions.jsonl: was changed"),
        (link, "bars.jsonl: a link or no regular file"),
        (swap, "outputs/decisions.jsonl: was changed"),
        (shutil.rmtree, "no such folder"),
    ],
)
def test_a_file_too_few_too_many_or_in_anothers_place_is_named(
    pack: Path, key: VerifyKey, change: Callable[[Path], object], words: str
) -> None:
    change(pack)
    with pytest.raises(ProofError, match=words):
        verify_pack(pack, key)


def test_another_key_is_refused(pack: Path, mine: SigningKey) -> None:
    with pytest.raises(ProofError, match=r"statement\.json: signed by key"):
        verify_pack(pack, mine.verify_key)


def sign_again(folder: Path, key: VerifyKey, mine: SigningKey, *, draw: bool = True, **changes: Any) -> None:
    """What somebody with a key can do: say whatever they like about changed files, whole and signed."""
    predicate = msgspec.structs.replace(predicate_of(folder, key), **changes)
    found = hash_files(folder)
    runs = tuple(
        msgspec.structs.replace(run, stdout_sha256=found[run.stdout], stderr_sha256=found[run.stderr])
        for run in predicate.commands
    )
    predicate = msgspec.structs.replace(predicate, commands=runs)
    if draw:
        files = {name: (folder / name).read_bytes() for name in found if not name.startswith("PROOF_PACK")}
        for name, text in zip(("PROOF_PACK.md", "PROOF_PACK.html"), pages(predicate, files), strict=True):
            (folder / name).write_bytes(text)
    body = make_statement(hash_files(folder), predicate)
    (folder / "statement.json").write_bytes(seal(PAYLOAD_TYPE, body, mine))


def edit_payload(folder: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the payload of the first entry of an excerpt."""
    path = folder / "outputs" / f"{name}.jsonl"
    first, rest = path.read_bytes().split(b"\n", 1)
    entry = json.loads(first)
    at = entry["fields"].index("payload") + 1
    payload = json.loads(entry["fields"][at])
    change(payload)
    entry["fields"][at] = json.dumps(payload)
    path.write_bytes(json.dumps(entry).encode() + b"\n" + rest)


def another_action(payload: dict[str, Any]) -> None:
    vote = payload["decision"]["votes"]["xgb"]
    vote["action"] = "SELL" if vote["action"] != "SELL" else "BUY"


def surer(payload: dict[str, Any]) -> None:
    payload["decision"]["confidence"] += 0.01


def shadow_surer(payload: dict[str, Any]) -> None:
    payload["shadows"]["patchtst"]["confidence"] = 0.99


def counted(payload: dict[str, Any]) -> None:
    payload["consensus_count"] += 1


def unmarked(payload: dict[str, Any]) -> None:
    del payload["model_breakdown"]["patchtst"]["shadow"]


def problems(folder: Path, mine: SigningKey) -> dict[str, str]:
    report = verify_pack(folder, mine.verify_key)
    assert report.holds == (not any(one.problems for one in report.computed))
    return {one.name: "; ".join(one.problems) for one in report.computed if one.problems}


class TestASignedLie:
    def test_signed_again_as_it_is_holds(self, pack: Path, key: VerifyKey, mine: SigningKey) -> None:
        sign_again(pack, key, mine)
        assert problems(pack, mine) == {}

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (another_action, "do not follow from its votes"),
            (surer, "do not follow from its votes"),
            (shadow_surer, "confidence does not follow from its probability"),
        ],
    )
    def test_about_a_decision(
        self, pack: Path, key: VerifyKey, mine: SigningKey, change: Callable[[dict[str, Any]], None], words: str
    ) -> None:
        edit_payload(pack, "decisions", change)
        sign_again(pack, key, mine)
        found = problems(pack, mine)
        assert words in found["decisions from their votes"]
        assert found["decisions from their votes"].startswith("outputs/decisions.jsonl: ")

    def test_about_an_action_that_its_artefacts_thresholds_do_not_give(
        self, pack: Path, key: VerifyKey, mine: SigningKey
    ) -> None:
        def change(payload: dict[str, Any]) -> None:
            shadow = payload["shadows"]["patchtst"]
            shadow["action"] = "HOLD" if shadow["action"] != "HOLD" else "BUY"

        edit_payload(pack, "decisions", change)
        sign_again(pack, key, mine)
        assert "its artefact's thresholds" in problems(pack, mine)["decisions from their votes"]

    @pytest.mark.parametrize(("change", "words"), [(counted, "consensus_count is"), (unmarked, "not marked")])
    def test_about_an_intent(
        self, pack: Path, key: VerifyKey, mine: SigningKey, change: Callable[[dict[str, Any]], None], words: str
    ) -> None:
        edit_payload(pack, "intents", change)
        sign_again(pack, key, mine)
        assert words in problems(pack, mine)["intents from their breakdowns and decisions"]

    def test_about_the_ledger(self, pack: Path, key: VerifyKey, mine: SigningKey) -> None:
        path = pack / "outputs" / "ledger.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:-1]))
        sign_again(pack, key, mine)
        assert "the head counts 3 entries, the ledger 2" in problems(pack, mine)["ledger chain and head"]
        path.write_bytes(lines[0].replace(b"tests", b"other") + b"".join(lines[1:]))
        sign_again(pack, mine.verify_key, mine)
        assert "does not follow from line 1" in problems(pack, mine)["ledger chain and head"]

    def test_about_an_artefact(self, pack: Path, key: VerifyKey, mine: SigningKey) -> None:
        path = pack / "outputs" / "models.jsonl"
        path.write_bytes(path.read_bytes().replace(b'\\"buy_above\\": 0.52', b'\\"buy_above\\": 0.51', 1))
        sign_again(pack, key, mine)
        assert "xgb: its manifest does not give" in problems(pack, mine)["artefact digests from their manifests"]

    def test_on_a_page(self, pack: Path, key: VerifyKey, mine: SigningKey) -> None:
        path = pack / "PROOF_PACK.md"
        path.write_bytes(path.read_bytes().replace(b"HOLD", b"PROMOTE", 1))
        sign_again(pack, key, mine, draw=False)
        assert problems(pack, mine) == {
            "pages for people": "PROOF_PACK.md: is not what the statement and the outputs give"
        }

    def test_with_a_file_that_no_command_printed(self, pack: Path, key: VerifyKey, mine: SigningKey) -> None:
        (pack / "outputs" / "more.txt").write_text("by hand")
        sign_again(pack, key, mine)
        with pytest.raises(ProofError, match=r"outputs/more\.txt: no command of the pack printed it"):
            verify_pack(pack, mine.verify_key)

    def test_about_a_later_format(self, pack: Path, key: VerifyKey, mine: SigningKey) -> None:
        sign_again(pack, key, mine, format=2)
        with pytest.raises(ProofError, match="format 2, this program reads 1"):
            verify_pack(pack, mine.verify_key)


def test_pages_show_hostile_output_as_text(key: VerifyKey) -> None:
    predicate = predicate_of(GOLDEN / "pack", key)
    hostile = b"<script>alert(1)</script>|`\x1b[31m\x00\xff\r\n" + b"x" * 5000 + b"\n" * 90
    files = dict.fromkeys((name for run in predicate.commands for name in (run.stdout, run.stderr)), hostile)
    markdown, html = pages(predicate, files)
    assert not any(tag == "script" for tag, _ in Page(html.decode()).tags)
    assert b"\x1b" not in html
    assert b"\x1b" not in markdown
    assert b"more lines in the file" in html
    assert hashlib.sha256(html).digest() == hashlib.sha256(pages(predicate, files)[1]).digest()
