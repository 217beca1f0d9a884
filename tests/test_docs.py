"""The documentation tells what the program does: commands, options, links, tables and examples against the code.

`docs/reference/commands.md` is made from the commands' own help: ``python -m tests.test_docs`` writes it again.
"""

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from quantum_trader.archive.columns import SCHEMA as ARCHIVE
from quantum_trader.bus import wire
from quantum_trader.cli.main import VERBS, build
from quantum_trader.core.chain import holds
from quantum_trader.core.decision import DecisionRecord
from quantum_trader.core.features import SCHEMA
from quantum_trader.core.predictions import MODELS
from quantum_trader.gates.policy import DEFAULT, LEGACY
from quantum_trader.models.manifest import Manifest
from quantum_trader.release.ledger import read_entries, verify
from quantum_trader.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
COMMANDS = REFERENCE / "commands.md"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]

_FENCE = re.compile(r"^ *```(?P<kind>\w*)\n(?P<text>.*?)^ *```$", flags=re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+)`")
_CALL = re.compile(r"(?<![\w./-])quantum ([a-z][\w-]*)(.*)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*|(?<![\w-])-[a-z](?!\w)")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_TOOLS = re.compile(r"^\s*(?:\.venv/bin/)?(redis-cli|pip|python3?|make|git|awk)\b")
"""Commands of others, whose options are theirs."""


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def fenced(page: Path) -> list[str]:
    """Contents of the fenced blocks of a page."""
    return [match["text"] for match in _FENCE.finditer(text_of(page))]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", text_of(page))


def table_rows(page: Path, *head: str) -> list[list[str]]:
    """Cells of the rows of the table with this head, backquotes removed."""
    lines = text_of(page).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {' | '.join(head)} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


@cache
def commands() -> dict[str, Any]:
    """Every command by the words that call it, such as ``models list``."""
    found: dict[str, Any] = {}
    for verb in VERBS:
        root: Any = typer.main.get_command(build(verb))
        command = root.commands[verb]
        found[verb] = command
        found |= {f"{verb} {name}": sub for name, sub in getattr(command, "commands", {}).items()}
    return found


def options(command: Any) -> set[str]:
    names = {name for param in command.params for name in (*param.opts, *param.secondary_opts) if name.startswith("-")}
    return {*names, "--help", "-h"}


def calls(page: Path) -> Iterator[tuple[str, str]]:
    """Every ``quantum VERB ...`` in code: the verb and the rest of its line."""
    blocks = [] if page == COMMANDS else fenced(page)
    for code in (*blocks, *_INLINE.findall(prose(page))):
        for line in code.replace("\\\n", " ").splitlines():
            for match in _CALL.finditer(line):
                yield match[1], match[2].partition(" #")[0]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_and_its_options_exist(page: Path) -> None:
    for verb, rest in calls(page):
        assert verb in VERBS, f"quantum {verb}"
        sub = rest.split()[0] if rest.split() else ""
        command = commands().get(f"{verb} {sub}") or commands()[verb]
        for option in _OPTION.findall(rest):
            assert option in options(command), f"quantum {verb}{rest}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_option_named_alone_exists(page: Path) -> None:
    known = {"--version"}.union(*(options(command) for command in commands().values()))
    for code in _INLINE.findall(prose(page)):
        if code.startswith("-") and not _TOOLS.match(code):
            for option in _OPTION.findall(code):
                assert option in known | {"--index-url"}, code


def help_of(words: str) -> str:
    """What ``quantum WORDS --help`` prints on 100 columns."""
    arguments = [*words.split(), "--help"]
    result = CliRunner().invoke(build(words.split()[0] if words else None), arguments, env={"COLUMNS": "100"})
    assert result.exit_code == 0, result.output
    plain = re.sub(r"\x1b\[[0-9;]*m", "", result.output)
    # The runner names the program after its entry function.
    plain = re.sub(r"Usage: root\b", "Usage: quantum", plain)
    return "\n".join(line.rstrip() for line in plain.strip("\n").splitlines()).strip("\n")


def commands_page() -> str:
    """The reference of the commands as it should be."""
    parts = [
        "# Commands\n",
        "Made from the commands' own help by `python -m tests.test_docs`; a test keeps it equal. Exit codes stand",
        "on [a page of their own](exit-codes.md), settings [too](settings.md).\n",
        f"```\n{help_of('')}\n```\n",
    ]
    for words in commands():
        parts.append(f"## quantum {words}\n\n```\n{help_of(words)}\n```\n")
    return "\n".join(parts)


def test_the_commands_page_is_the_commands_own_help() -> None:
    assert text_of(COMMANDS) == commands_page(), "write it again with: python -m tests.test_docs"


def anchors(page: Path) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in _LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert linked.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(linked), target


def test_every_page_is_reached_from_the_index() -> None:
    linked = {(DOCS / target.partition("#")[0]).resolve() for target in _LINK.findall(text_of(DOCS / "README.md"))}
    assert {page for page in PAGES if page.is_relative_to(DOCS)} - linked <= {DOCS / "README.md"}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_path_of_a_machine(page: Path) -> None:
    assert not re.search(r"(?<![\w.])/(work|tmp|root|home|Users)/", text_of(page))


def leaves(tree: dict[str, Any], before: str = "") -> dict[str, Any]:
    """A nested mapping as dotted keys."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        out |= leaves(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return out


def settings_rows() -> list[list[str]]:
    return table_rows(REFERENCE / "settings.md", "TOML key", "environment", "default", "meaning")


def test_the_settings_table_is_complete_and_its_defaults_are_true() -> None:
    actual = leaves(Settings().model_dump(mode="json"))

    def written(key: str, value: Any) -> str:
        between = " " if key in ("reload_command", "restart_command", "alert_urls") else ","
        return between.join(map(str, value)) if isinstance(value, list) else str(value)

    expected = {key: "none" if value in (None, []) else written(key, value) for key, value in actual.items()}
    assert {key: default for key, _, default, _ in settings_rows()} == expected


_OTHERS = {"weight_ramp": "0.1,0.3", "timeframe": "1h", "log_format": "console", "pairs": "XLM/USDT"}


@pytest.mark.parametrize("row", settings_rows(), ids=lambda row: row[0])
def test_each_variable_of_the_settings_table_sets_its_key(row: list[str]) -> None:
    key, variable, default, _ = row
    wanted = _OTHERS.get(key, "777" if re.fullmatch(r"[\d.]+", default) else "other")
    value = f"{key.partition('.')[2]}=7" if variable == "QUANTUM_WEIGHTS" else wanted
    before = leaves(Settings().model_dump(mode="json"))
    after = leaves(load_settings(environ={variable: value}).model_dump(mode="json"))
    changed = {name for name in before if name in after and before[name] != after[name]}
    assert changed == {key}


def test_the_toml_example_of_the_settings_is_read(tmp_path: Path) -> None:
    (example,) = [match["text"] for match in _FENCE.finditer(text_of(REFERENCE / "settings.md")) if match["kind"]]
    path = tmp_path / "engine.toml"
    path.write_text(example, encoding="utf-8")
    assert load_settings([path], environ={}).models["patchtst"].shadow_only == "true"
    assert tomllib.loads(example)["min_consensus"] == 2


def test_the_feature_list_is_the_schemas() -> None:
    page = REFERENCE / "features.md"
    assert tuple(name for name, _ in table_rows(page, "name", "what")) == SCHEMA.names
    channels = prose(page).partition("in this order:")[2].partition(".\n")[0]
    assert tuple(_INLINE.findall(channels)) == SCHEMA.sequence_names


def test_the_archives_columns_are_all_there() -> None:
    page = REFERENCE / "archive.md"
    head = [name for name, _, _ in table_rows(page, "column", "type", "what")]
    fields = [name for name, _, _ in table_rows(page, "field", "type", "what")]
    assert [*head, *(f"{model}.{field}" for model in MODELS for field in fields)] == ARCHIVE.names


def test_the_policy_table_is_the_policys() -> None:
    def shown(value: Any) -> str:
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    rows = table_rows(REFERENCE / "gate-policy.md", "key", "default", "legacy", "meaning")
    default, legacy = DEFAULT.to_mapping(), LEGACY.to_mapping()
    assert [row[:3] for row in rows] == [[key, shown(default[key]), shown(legacy[key])] for key in default]


def test_the_manifests_keys_are_all_there() -> None:
    rows = table_rows(REFERENCE / "artefacts.md", "key", "meaning")
    assert tuple(key for key, _ in rows) == Manifest.__struct_fields__


def entry(event: str) -> wire.Fields:
    """The example of an event on the wire-format page, as the server would send it."""
    (block,) = [text for text in fenced(REFERENCE / "wire-format.md") if text.startswith(f"event_type\n{event}\n")]
    return wire.pair_up([line.encode() for line in block.splitlines()])


def test_the_wire_examples_are_one_bar_its_decision_and_its_intent() -> None:
    bar, timeframe = wire.decode_bar(entry("market.bar"))
    record = wire.decode_record(entry("ai.decision"))
    intent = wire.decode_intent(entry("trade.intent"))
    assert isinstance(record, DecisionRecord)
    assert holds(record)
    assert wire.encode_record(record)[b"payload"] == entry("ai.decision")[b"payload"]
    assert (bar.symbol, timeframe, bar.ts_open) == (record.decision.symbol, "5m", record.decision.ts_open)
    assert (intent["decision_id"], intent["side"]) == (record.decision.decision_id, record.decision.action)
    assert intent["entry_price"] == bar.close
    assert wire.decode_lifecycle(entry("model.lifecycle")).kind == "alarm"


def test_the_ledgers_example_is_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text(fenced(REFERENCE / "ledger.md")[0], encoding="utf-8")
    assert verify(path) == []
    assert {entry.detail.model for entry in read_entries(path)} == {"xgb", "lgbm", "nhits"}


if __name__ == "__main__":
    COMMANDS.write_text(commands_page(), encoding="utf-8")
