"""The dashboard and the pages on metrics name what the engine really shows, and nothing else."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from quantum_trader.engine.metrics import Metrics
from tests.engine.test_metrics import IDENTITY, Shadow

ROOT = Path(__file__).resolve().parent.parent
DASHBOARD = ROOT / "ops" / "grafana" / "quantum-trader.json"
REFERENCE = ROOT / "docs" / "reference" / "metrics.md"
HOW_TO = ROOT / "docs" / "how-to" / "watch-the-engine.md"

_NAME = re.compile(r"\b(?:quantum|process)_[a-z_]+")
_GROUPED = re.compile(r"\bby \(([^)]*)\)")
_MATCHED = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
_LEGEND = re.compile(r"\{\{(\w+)\}\}")
_SET_BY_PROMETHEUS = {"instance", "job"}


@pytest.fixture(scope="module")
def shown() -> dict[str, set[str]]:
    """Every sample name that the engine shows, with its labels."""
    metrics = Metrics(IDENTITY)
    metrics.watch_shadows(lambda: [Shadow()])
    metrics.watch_vitals(lambda: True, lambda: 0.1)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return loaded


def expressions(panel: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for target in panel.get("targets", []):
        yield target["expr"], target["legendFormat"]


def test_every_metric_and_label_of_a_panel_exists(dashboard: dict[str, Any], shown: dict[str, set[str]]) -> None:
    asked = 0
    for panel in dashboard["panels"]:
        for expression, legend in expressions(panel):
            names = _NAME.findall(expression)
            assert len(names) == 1, (panel["title"], expression)
            assert names[0] in shown, (panel["title"], names[0])
            labels = {label.strip() for group in _GROUPED.findall(expression) for label in group.split(",")}
            labels |= set(_MATCHED.findall(expression))
            assert labels <= shown[names[0]] | _SET_BY_PROMETHEUS, (panel["title"], expression)
            assert set(_LEGEND.findall(legend)) <= (labels or _SET_BY_PROMETHEUS), (panel["title"], legend)
            asked += 1
    assert asked > 20


def test_every_metric_of_the_engine_is_on_a_panel(dashboard: dict[str, Any], shown: dict[str, set[str]]) -> None:
    used = {name for panel in dashboard["panels"] for text, _ in expressions(panel) for name in _NAME.findall(text)}
    # A histogram is asked by its buckets.
    own = {name for name in shown if name.startswith("quantum_") and not name.endswith(("_sum", "_count"))}
    assert own - used == set()


def test_rates_are_of_counters_and_only_counters_are_rated(dashboard: dict[str, Any]) -> None:
    for panel in dashboard["panels"]:
        for expression, _ in expressions(panel):
            (name,) = _NAME.findall(expression)
            rated = bool(re.search(rf"\b(rate|increase)\({name}\b", expression))
            assert rated == name.endswith(("_total", "_bucket")), (panel["title"], expression)


def test_panels_say_what_they_show_and_lie_side_by_side(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["targets"]
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above


def test_it_asks_whatever_prometheus_the_user_picks(dashboard: dict[str, Any]) -> None:
    assert dashboard["schemaVersion"] >= 39
    assert dashboard.get("id") is None
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert set(variables) == {"datasource", "instance", "window"}
    text = json.dumps(dashboard["panels"])
    assert set(re.findall(r"\$\{?(\w+)", text)) == set(variables)
    for panel in dashboard["panels"]:
        for part in (panel, *panel.get("targets", [])):
            if panel["type"] != "row":
                assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_the_reference_lists_every_metric_with_its_type_and_labels() -> None:
    metrics = Metrics(IDENTITY)
    metrics.watch_shadows(lambda: [Shadow()])
    metrics.watch_vitals(lambda: True, lambda: 0.1)
    actual = set()
    for family in metrics.registry.collect():
        if not family.name.startswith("quantum_"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        actual.add((name, family.type, ", ".join(sorted(labels))))
    rows = []
    for line in REFERENCE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `quantum_"):
            name, kind, labels, meaning = (cell.strip().replace("`", "") for cell in line.strip("|").split("|"))
            assert meaning
            rows.append((name, kind, ", ".join(sorted(filter(None, labels.split(", "))))))
    assert sorted(rows) == sorted(actual)


@pytest.mark.parametrize("page", [REFERENCE, HOW_TO], ids=lambda page: page.name)
def test_every_metric_that_a_page_names_exists(page: Path, shown: dict[str, set[str]]) -> None:
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown} | set(shown)
    named = set(_NAME.findall(page.read_text(encoding="utf-8")))
    assert named
    assert named <= families
