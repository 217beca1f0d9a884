"""`quantum counterfactual` on files: the numbers of the comparison, and one line for everything that cannot be."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.report.conftest import World, make_world
from typer.testing import CliRunner

from quantum_trader.archive.columns import to_records, to_table
from quantum_trader.archive.store import DecisionFile, in_order
from quantum_trader.cli.counterfactual import by_model
from quantum_trader.cli.main import build
from quantum_trader.core.chain import GENESIS, chained
from quantum_trader.core.errors import ConfigError, QuantumError
from quantum_trader.market.files import write_bars
from quantum_trader.report.flips import compare
from quantum_trader.report.frame import Frame
from quantum_trader.report.revote import Ballot


def linked(table: pa.Table) -> pa.Table:
    """The same decisions as a writer leaves them, each symbol's records in a chain."""
    heads: dict[str, str] = {}
    records = []
    for record in to_records(in_order(table)):
        symbol = record.decision.symbol
        records.append(chained(record, heads.get(symbol, GENESIS)))
        heads[symbol] = records[-1].chain
    return to_table(records)


def written(world: World, folder: Path, table: pa.Table | None = None) -> list[str]:
    """The world as files, and the options that read them; with a table, that one as it is."""
    with DecisionFile(folder / "decisions" / "decisions.parquet") as file:
        file.write(linked(world.table) if table is None else table)
    write_bars(folder / "bars.parquet", world.bars)
    return ["--decisions", str(folder / "decisions"), "--bars", str(folder / "bars.parquet")]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, list[str]]:
    world = make_world({"BTCUSDT": 100.0, "ETHUSDT": 50.0}, decisions=150)
    return world, written(world, tmp_path_factory.mktemp("world"))


def run(*options: str) -> Any:
    return CliRunner().invoke(build("counterfactual"), ["counterfactual", *options], env={"COLUMNS": "100"})


def test_the_json_is_the_comparison(files: tuple[World, list[str]]) -> None:
    world, source = files
    frame = Frame.of(in_order(world.table), world.bars)
    flips = compare(frame, Ballot({"patchtst": 0.3}, 1))
    result = run("--weights", "patchtst=0.3", "--min-consensus", "1", "--json", *source)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["decisions"], found["flipped"], found["settled"]) == (300, flips.flipped, flips.settled)
    assert found["total"]["pnl"] == flips.total
    assert found["per_flip"] == {"mean": flips.per_flip.value, "se": flips.per_flip.se}
    assert found["total"]["low"] < found["total"]["pnl"] < found["total"]["high"]
    assert found["matrix"] == flips.matrix.tolist()
    assert sum(item["count"] for item in found["directions"]) == flips.flipped
    assert [tuple(item.values()) for item in found["consensus"]] == list(flips.consensus)


def test_people_read_the_same(files: tuple[World, list[str]]) -> None:
    result = run("--weights", "patchtst=0.2", *files[1])
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "of 300 decisions" in text
    assert "The recorded rules give all 300 again, to the last bit." in text
    assert "Flips by direction" in text
    assert "BUY and SELL decisions by voters that agree" in text


def test_records_that_are_no_vote_are_an_error(files: tuple[World, list[str]], tmp_path: Path) -> None:
    world, _ = files
    action = world.table["action"].to_pylist()
    action[7] = 1 if action[7] != 1 else -1
    index = world.table.schema.get_field_index("action")
    column = pa.array(action, world.table.schema.field("action").type)
    table = world.table.set_column(index, world.table.schema.field("action"), column)
    result = run("--weights", "patchtst=0.2", *written(world, tmp_path, table))
    assert isinstance(result.exception, QuantumError)
    assert str(result.exception).startswith("the recorded decisions are not the vote of their records: BTCUSDT 2026")


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ([], "nothing to change"),
        (["--weights", "patchtst"], "expected a model and a number"),
        (["--weights", "oracle=1"], "unknown"),
        (["--weights", "xgb=1,xgb=2"], "named twice"),
    ],
)
def test_bad_input_is_one_line(files: tuple[World, list[str]], options: list[str], rule: str) -> None:
    result = run(*options, *files[1])
    assert isinstance(result.exception, ConfigError)
    assert rule in str(result.exception)


def test_neither_files_nor_stream_is_an_error() -> None:
    assert "give either --hours" in str(run("--weights", "xgb=1").exception)


def test_lists_are_read() -> None:
    assert by_model("--weights", " patchtst=0.2 , xgb=0,") == {"patchtst": 0.2, "xgb": 0.0}


def replaced(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    index = table.schema.get_field_index(name)
    return table.set_column(index, table.schema.field(name), pa.array(values, table.schema.field(name).type))


@pytest.mark.parametrize("name", ["xgb.p_up", "patchtst.p_up"])
def test_altered_probabilities_are_an_error_though_the_vote_is_the_recorded_one(
    files: tuple[World, list[str]], tmp_path: Path, name: str
) -> None:
    # Thresholds read p_up, and the recorded vote does not: a shadow's is in no decision's digest either.
    table = linked(files[0].table)
    model = name.partition(".")[0]
    source = written(files[0], tmp_path, replaced(table, name, [0.99] * len(table)))
    result = run("--buy-above", f"{model}=0.6", *source)
    assert isinstance(result.exception, QuantumError)
    assert "not what was recorded" in str(result.exception)
    assert "changed" in str(result.exception)
    assert "again" not in result.stdout


def test_records_stripped_of_their_links_are_an_error(files: tuple[World, list[str]], tmp_path: Path) -> None:
    table = linked(files[0].table)
    bare = replaced(replaced(table, "chain", [None] * len(table)), "chain_prev", [None] * len(table))
    result = run("--weights", "patchtst=0.2", *written(files[0], tmp_path, bare))
    assert isinstance(result.exception, QuantumError)
    assert "carries no link" in str(result.exception)
