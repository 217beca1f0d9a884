"""Checking a proof pack: offline, from the public key alone, by whoever holds the folder.

First whether it is what was signed: the signature, every file's digest, no file too many or too few. One byte that was
changed anywhere ends the check there, and its file is named. Then whether what was signed is true of itself: whatever
follows from something else in the pack is computed again.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from quantum_trader.bus.excerpt import from_lines
from quantum_trader.bus.wire import decode_intent, decode_record, pair_up
from quantum_trader.core.decision import DecisionRecord
from quantum_trader.core.errors import ArtefactError, ProofError, QuantumError, WireError
from quantum_trader.core.predictions import Thresholds
from quantum_trader.models.manifest import digest as manifest_digest
from quantum_trader.models.manifest import parse as parse_manifest
from quantum_trader.release import proof_commands as listed
from quantum_trader.release.dsse import unseal
from quantum_trader.release.ledger import Head, verify
from quantum_trader.release.proof_derive import verdict_model
from quantum_trader.release.recompute import breakdown, chain_problems, intent_problems, pair_problems, record_problems
from quantum_trader.release.signing import VerifyKey
from quantum_trader.release.statement import PAYLOAD_TYPE, STATEMENT_FILE, Statement, hash_files, read_file
from quantum_trader.release.statement import read_statement as _read
from quantum_trader.report.proof import FORMAT, CommandRun, Predicate
from quantum_trader.report.proof_page import HTML_FILE, MARKDOWN_FILE, pages

Judge = Callable[[bytes, bytes, str], tuple[int, bytes]]
"""From the excerpts of decisions and bars and a model's name to the gates' exit code and output."""


class Computed(msgspec.Struct, frozen=True):
    """One thing that was computed again: how many of them, what did not follow, and why it was left out if it was."""

    name: str
    count: int
    problems: tuple[str, ...]
    left_out: str = ""


class Report(msgspec.Struct, frozen=True):
    """A pack that is what was signed, and whether it is true of itself."""

    key_id: str
    files: int
    predicate: Predicate
    computed: tuple[Computed, ...]

    @property
    def holds(self) -> bool:
        """Whether everything that was computed again came out the same."""
        return not any(one.problems for one in self.computed)


@dataclass(frozen=True)
class _Pack:
    folder: Path
    statement: Statement

    @property
    def predicate(self) -> Predicate:
        return self.statement.predicate

    def output(self, name: str) -> tuple[CommandRun, bytes] | None:
        """A command and what it printed, where it ended well."""
        run = self.predicate.command(name)
        return None if run is None or run.exit_code != 0 else (run, read_file(self.folder / run.stdout, run.stdout))


def verify_pack(folder: Path, key: VerifyKey, judge: Judge | None = None, code: str = "") -> Report:
    """Check a pack.

    Args:
        folder: The pack.
        key: Public key of whoever signed it.
        judge: Judges the excerpts again; None leaves verdicts out.
        code: Digest of the program that judges: only the very program that made a pack must give its very verdict.

    Raises:
        ProofError: naming the file, if the pack is not what was signed with this key.
    """
    pack = _Pack(folder, _authentic(folder, key))
    computed = [
        _ledger(pack),
        _models(pack),
        *_decisions(pack),
        _intents(pack),
        *_verdicts(pack, judge, code),
        _pages(pack),
    ]
    return Report(key.key_id, len(pack.statement.subject) + 1, pack.predicate, tuple(computed))


def _authentic(folder: Path, key: VerifyKey) -> Statement:
    """The statement, after signature, digests and the list of files were checked."""
    if not folder.is_dir():
        raise ProofError(f"pack {folder}: no such folder")
    raw = read_file(folder / STATEMENT_FILE, STATEMENT_FILE)
    statement = _read(unseal(raw, PAYLOAD_TYPE, key, STATEMENT_FILE))
    signed, found = statement.digests, hash_files(folder)
    for name in sorted({*signed, *found}):
        if name not in found:
            raise ProofError(f"{name}: is missing from the pack")
        if name not in signed:
            raise ProofError(f"{name}: does not belong to the pack (the statement does not list it)")
        if found[name] != signed[name]:
            raise ProofError(
                f"{name}: was changed: SHA-256 is {found[name][:16]}, the statement says {signed[name][:16]}"
            )
    _agrees(statement)
    return statement


def _agrees(statement: Statement) -> None:
    """The document must speak of exactly the files that were signed, and say their digests."""
    predicate, signed = statement.predicate, statement.digests
    if predicate.format != FORMAT:
        raise ProofError(f"{STATEMENT_FILE}: format {predicate.format}, this program reads {FORMAT}")
    said = {run.stdout: run.stdout_sha256 for run in predicate.commands}
    said |= {run.stderr: run.stderr_sha256 for run in predicate.commands}
    for name, value in said.items():
        if signed.get(name) != value:
            raise ProofError(f"{STATEMENT_FILE}: says two things of {name}")
    foreign = sorted(set(signed) - set(said) - {MARKDOWN_FILE, HTML_FILE})
    if foreign:
        raise ProofError(f"{foreign[0]}: no command of the pack printed it")
    if len({run.name for run in predicate.commands}) != len(predicate.commands):
        raise ProofError(f"{STATEMENT_FILE}: two commands have one name")
    if predicate.ledger.file not in said or not {MARKDOWN_FILE, HTML_FILE} <= set(signed):
        raise ProofError(f"{STATEMENT_FILE}: the pack lacks its ledger or a page")


def _ledger(pack: _Pack) -> Computed:
    """The chain of the ledger and its head."""
    said = pack.predicate.ledger
    problems = verify(pack.folder / said.file, Head(said.count, said.digest))
    return Computed(
        "ledger chain and head", said.count, tuple(f"{said.file}: line {p.line} {p.what}" for p in problems)
    )


def _models(pack: _Pack) -> Computed:
    name = "artefact digests from their manifests"
    held = pack.output(listed.MODELS)
    if held is None:
        return Computed(name, 0, (), "the models could not be read when the pack was made")
    problems = [
        f"{held[0].stdout}: {said.get('model')}: its manifest does not give the digest {str(said.get('digest'))[:16]}"
        for said in _manifests(held[1])
        if manifest_digest(str(said.get("manifest", "")).encode()) != said.get("digest")
    ]
    return Computed(name, len(_manifests(held[1])), tuple(problems))


def _manifests(raw: bytes) -> list[dict[str, object]]:
    """What is said of each model that could be loaded."""
    found: list[dict[str, object]] = []
    for line in raw.splitlines():
        try:
            found.append(msgspec.json.decode(line, type=dict[str, object]))
        except msgspec.MsgspecError:
            found.append({})
    return [one for one in found if one.get("digest") != ""]


def _thresholds(pack: _Pack) -> dict[str, Thresholds]:
    """By digest, the thresholds of the artefacts whose manifests this program can read."""
    held = pack.output(listed.MODELS)
    out = {}
    for said in _manifests(held[1]) if held is not None else []:
        try:
            parsed = parse_manifest(str(said.get("manifest", "")).encode(), str(said.get("folder")))
        except ArtefactError:
            continue
        out[str(said.get("digest"))] = Thresholds(parsed.thresholds.buy_above, parsed.thresholds.sell_below)
    return out


def _decisions(pack: _Pack) -> Iterator[Computed]:
    name = "decisions from their votes"
    held = pack.output(listed.DECISIONS)
    if held is None:
        yield Computed(name, 0, (), "the decisions could not be read when the pack was made")
        return
    thresholds = _thresholds(pack)
    problems: list[str] = []
    records = list(_read_records(*held))
    for where, record in records:
        if isinstance(record, str):
            problems.append(f"{where}: {record}")
        else:
            problems += [f"{where}: {problem}" for problem in record_problems(record, thresholds)]
    yield Computed(name, len(records), tuple(problems))
    whole = [(where, record) for where, record in records if not isinstance(record, str)]
    links = sum(bool(record.chain) for _, record in whole)
    broken = tuple(chain_problems(whole))
    yield Computed("chain of predictions", links, broken, "" if links or broken else "these records were not chained")


def _read_records(run: CommandRun, raw: bytes) -> Iterator[tuple[str, DecisionRecord | str]]:
    try:
        entries = from_lines(raw, run.stdout)
    except WireError as error:
        yield run.stdout, str(error)
        return
    for entry in entries:
        try:
            yield f"{run.stdout}: {entry.entry_id}", decode_record(pair_up(entry.flat))
        except WireError as error:
            yield f"{run.stdout}: {entry.entry_id}", str(error)


def _intents(pack: _Pack) -> Computed:
    name = "intents from their breakdowns and decisions"
    held, decided = pack.output(listed.INTENTS), pack.output(listed.DECISIONS)
    if held is None:
        return Computed(name, 0, (), "the intents could not be read when the pack was made")
    records: dict[str, DecisionRecord] = {}
    for _, record in _read_records(*decided) if decided is not None else ():
        if not isinstance(record, str):
            records[record.decision.decision_id] = record
    try:
        entries = from_lines(held[1], held[0].stdout)
    except WireError as error:
        return Computed(name, 0, (str(error),))
    problems: list[str] = []
    for entry in entries:
        try:
            payload = decode_intent(pair_up(entry.flat))
        except WireError as error:
            problems.append(f"{held[0].stdout}: {entry.entry_id}: {error}")
            continue
        problems += [f"{held[0].stdout}: {entry.entry_id}: {problem}" for problem in _intent(payload, records)]
    return Computed(name, len(entries), tuple(problems))


def _intent(payload: dict[str, object], records: Mapping[str, DecisionRecord]) -> Iterator[str]:
    record = records.get(str(payload.get("decision_id")))
    if record is None:
        # Its decision lies outside the excerpt: then the entries' own marks are all there is.
        marked = {model for model, entry in breakdown(payload).items() if entry.get("shadow") is True}
        yield from intent_problems(payload, marked)
    else:
        yield from intent_problems(payload, set(record.shadows))
        yield from pair_problems(payload, record)


def _verdicts(pack: _Pack, judge: Judge | None, code: str) -> Iterator[Computed]:
    for run in pack.predicate.commands:
        model = verdict_model(run.name)
        if model is not None:
            yield _verdict(pack, run, model, (judge, code))


def _verdict(pack: _Pack, run: CommandRun, model: str, by: tuple[Judge | None, str]) -> Computed:
    name = f"verdict on {model}"
    judge, code = by
    decisions, bars = pack.output(listed.DECISIONS), pack.output(listed.BARS)
    if judge is None or decisions is None or bars is None or run.exit_code is None:
        return Computed(name, 0, (), "not judged again here" if judge is None else "it was given on no whole excerpt")
    try:
        code_now, out = judge(decisions[1], bars[1], model)
    except QuantumError as error:
        return Computed(name, 1, (f"{run.stdout}: cannot be judged again: {error}",))
    if (code_now, out) == (run.exit_code, read_file(pack.folder / run.stdout, run.stdout)):
        return Computed(name, 1, ())
    if pack.predicate.maker.get("code") != code:
        return Computed(name, 0, (), f"made by another program; this one ends with exit code {code_now}")
    return Computed(name, 1, (f"{run.stdout}: the excerpts give another verdict (exit code {code_now})",))


def _pages(pack: _Pack) -> Computed:
    """Both pages, drawn again."""
    names = sorted(set(pack.statement.digests) - {MARKDOWN_FILE, HTML_FILE})
    drawn = pages(pack.predicate, {name: read_file(pack.folder / name, name) for name in names})
    problems = [
        f"{name}: is not what the statement and the outputs give"
        for name, text in zip((MARKDOWN_FILE, HTML_FILE), drawn, strict=True)
        if read_file(pack.folder / name, name) != text
    ]
    return Computed("pages for people", 2, tuple(problems))
