"""`quantum models list|show|import`: what artefacts there are, what they say of themselves, and old checkpoints."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from quantum_trader.models.manifest import Manifest

app = typer.Typer(no_args_is_help=True, help="List, show and import artefacts.")

Folder = Annotated[Path, typer.Option("--dir", help="Folder of artefacts.")]

_DEFAULT_FOLDER = Path("models")
_PADDING = (0, 1, 0, 0)


@app.command("list")
def list_models(folder: Folder = _DEFAULT_FOLDER) -> None:
    """List artefacts, every one verified. Exit code 1 where one is broken."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Column, Table

    from quantum_trader.cli.finish import Finish
    from quantum_trader.models.store import list_artefacts

    console = Console(highlight=False)
    entries = list_artefacts(folder)
    columns = (Column(name, no_wrap=True) for name in ("artefact", "digest", "version", "schema", "log-loss", "AUC"))
    table = Table(*columns, box=SIMPLE, padding=_PADDING, caption="log-loss and AUC on the test part")
    for entry in entries:
        if entry.artefact is None:
            table.add_row(entry.folder.name, "[red]BROKEN[/]")
            continue
        manifest = entry.artefact.manifest
        test = manifest.metrics.test if manifest.metrics else None
        figures = (f"{test.log_loss:.4f}", f"{test.auc:.4f}") if test else ("-", "-")
        table.add_row(
            entry.folder.name, entry.artefact.digest[:12], str(manifest.version), manifest.features[:8], *figures
        )
    console.print(table if entries else f"{folder}: no artefacts")
    problems = [entry.problem for entry in entries if entry.artefact is None]
    for problem in problems:
        console.print(problem, markup=False, soft_wrap=True)
    if problems:
        raise Finish(1)


@app.command("show")
def show_model(
    name: Annotated[str, typer.Argument(help="Folder name of an artefact, or xgb, lgbm, nhits, patchtst: its newest.")],
    folder: Folder = _DEFAULT_FOLDER,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as it is.")] = False,
) -> None:
    """Show one artefact after verifying it and predicting once."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from quantum_trader.models.inference import OnnxModel
    from quantum_trader.models.manifest import render
    from quantum_trader.models.store import find

    artefact = find(folder, name)
    if as_json:
        typer.echo(render(artefact.manifest), nl=False)
        return
    OnnxModel(artefact, allow_unknown_schema=True).warm_up()
    table = Table(show_header=False, box=SIMPLE, padding=_PADDING)
    for label, value in {
        "folder": str(artefact.folder),
        "digest": artefact.digest,
        **_facts(artefact.manifest),
    }.items():
        table.add_row(label, value)
    console = Console(highlight=False)
    console.print(table)
    console.print("verified: every digest, the graph's shapes, and one prediction")


def _facts(manifest: "Manifest") -> dict[str, str]:
    from quantum_trader.core.errors import format_ms

    facts = {
        "made": manifest.created,
        "lineage": f"{manifest.lineage}, version {manifest.version}",
        "input": f"{manifest.uses}, feature schema {manifest.features}",
        "label": f"horizon {manifest.label.horizon} bars, delay {manifest.label.delay}",
        "thresholds": f"BUY >= {manifest.thresholds.buy_above:.6f}, SELL <= {manifest.thresholds.sell_below:.6f}",
        "parity": f"{manifest.parity.max_abs_dp:.1e} at most over {manifest.parity.rows:,} rows, "
        f"{manifest.parity.flips} action flips",
        "libraries": ", ".join(f"{library} {version}" for library, version in manifest.libraries.items()),
    }
    if manifest.training is None or manifest.metrics is None:
        return {**facts, "trained on": "unknown (imported): it can only be a shadow"}
    training = manifest.training
    facts["trained on"] = (
        f"{', '.join(training.symbols)} {training.timeframe}, {format_ms(training.window_first_ms)} to "
        f"{format_ms(training.window_last_ms)}, bars {training.bars_sha256[:16]}"
    )
    facts["rows"] = (
        f"{training.rows.train:,} for training, {training.rows.validation:,} for validation, "
        f"{training.rows.test:,} for the test; seed {training.seed}, {'' if training.balanced else 'not '}balanced"
    )
    for part in ("validation", "test"):
        own = getattr(manifest.metrics, part)
        facts[part] = (
            f"log-loss {own.log_loss:.4f} (the prior's {own.prior_log_loss:.4f}), Brier {own.brier:.4f}, "
            f"AUC {own.auc:.4f}, accuracy {own.accuracy:.4f}"
        )
    return facts


@app.command("import")
def import_model(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth state dict of PatchTST, bare or under model_state_dict.")],
    folder: Folder = _DEFAULT_FOLDER,
    buy_above: Annotated[float, typer.Option(help="BUY at or above this probability.")] = 0.55,
    sell_below: Annotated[float, typer.Option(help="SELL at or below this probability.")] = 0.45,
) -> None:
    """Import an existing PatchTST checkpoint: weights only, every key and shape as expected.

    Nobody knows which features it was trained on, so it can only ever run as a shadow.
    """
    from rich.console import Console

    from quantum_trader.clock import now_utc
    from quantum_trader.core.predictions import Thresholds
    from quantum_trader.learn.import_pth import import_checkpoint
    from quantum_trader.models.artefact import load_artefact

    artefact = load_artefact(import_checkpoint(checkpoint, folder, now_utc(), Thresholds(buy_above, sell_below)))
    console = Console(highlight=False)
    console.print(f"{artefact.folder}  {artefact.digest[:16]}", soft_wrap=True)
    console.print("its feature schema is unknown: it can only run as a shadow")
