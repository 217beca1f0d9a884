import dataclasses
import json
import math
import tomllib
from typing import Any

import pytest

from quantum_trader.core.errors import ConfigError
from quantum_trader.gates.policy import LEGACY, ContractPolicy
from quantum_trader.gates.whole_policy import (
    WHOLE,
    DeploymentPolicy,
    EvidencePolicy,
    Policy,
    VetoPolicy,
    WatchPolicy,
)

FROZEN_DIGEST = "3d09cc7f6cb85533a823957b2043f19876fc86ce6cad21ce4f60933cdad9acbc"

SECTIONS: dict[str, Any] = {
    "vetoes": VetoPolicy,
    "evidence": EvidencePolicy,
    "deployment": DeploymentPolicy,
    "watch": WatchPolicy,
}


def test_thresholds_are_those_of_the_specification() -> None:
    b, c, d = WHOLE.vetoes, WHOLE.evidence, WHOLE.deployment
    assert (b.coverage_min, b.distinct_min, b.top_share_max, b.streak_max) == (0.95, 30, 0.10, 5)
    assert (b.within_share_min, b.correlation_max, b.homogeneity_z, b.homogeneity_cycles) == (0.25, 0.95, 4.0, 10)
    assert (b.leak_cycles, b.leak_hit_rate, b.leak_se, b.leak_delay_z, b.leak_edge_share) == (20, 0.60, 3.0, 4.0, 0.5)
    assert (c.alpha, c.refit_bars, c.ridge, c.q_clip, c.residual_min, c.q_min) == (0.01, 48, 5.0, 3.0, 0.02, 1e-3)
    assert (c.half_life, c.z_clip, c.block_bars, c.burn_blocks, c.optimal_blocks) == (60.0, 5.0, 12, 24, 200.0)
    assert (d.pnl_z, d.slice_alpha, d.recent_blocks, d.recent_share, d.recent_z) == (-1.645, 0.05, 24, 1 / 3, 1.0)
    assert (d.cost, d.recalibration_events, d.recalibration_ridge, d.prediction_min) == (0.0002, 50, 200.0, 0.05)
    assert (WHOLE.watch.drift_share, WHOLE.watch.alarm_odds) == (0.5, 2000.0)


def test_the_digest_is_the_same_for_ever() -> None:
    # A window that began under this digest must be judged under it, whatever version of this package judges.
    assert WHOLE.digest == FROZEN_DIGEST


def test_a_mapping_round_trips_through_json() -> None:
    again = Policy.from_mapping(json.loads(json.dumps(WHOLE.to_mapping())))
    assert again == WHOLE
    assert again.digest == WHOLE.digest


def changed(value: Any) -> Any:
    if isinstance(value, tuple):
        return [0.5, 0.75, 1.0]
    return value + 1 if isinstance(value, int) else value * 0.999


@pytest.mark.parametrize("section", [*SECTIONS, "contract"])
def test_every_threshold_is_in_the_digest(section: str) -> None:
    kind = SECTIONS.get(section, ContractPolicy)
    names = [field.name for field in dataclasses.fields(kind) if field.name not in ("name", "rule")]
    digests = set()
    for name in names:
        value = changed(getattr(getattr(WHOLE, section), name))
        if name == "passes_needed":
            value = 4
        digests.add(Policy.from_mapping({section: {name: value}}).digest)
    assert len(digests | {WHOLE.digest}) == len(names) + 1


def test_names_are_not_in_the_digest() -> None:
    assert Policy.from_mapping({"name": "mine", "contract": {"name": "its own"}}).digest == WHOLE.digest


@pytest.mark.parametrize("section", SECTIONS)
def test_every_threshold_has_a_range_and_keeps_it(section: str) -> None:
    kind = SECTIONS[section]
    assert set(kind.RANGES) == {field.name for field in dataclasses.fields(kind)}
    for name, (low, high) in kind.RANGES.items():
        for value in (low - 1, high + 1, math.nan):
            with pytest.raises(ConfigError, match=f"{section}.{name} ="):
                kind(**{name: value})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vetos": {}}, "unknown key 'vetos'"),
        ({"vetoes": {"coverage": 0.9}}, "unknown key 'vetoes.coverage'"),
        ({"vetoes": 0.9}, "vetoes must be a table"),
        ({"vetoes": {"coverage_min": "0.9"}}, "vetoes.coverage_min must be of type float"),
        ({"evidence": {"refit_bars": 48.0}}, "evidence.refit_bars must be of type int"),
        ({"contract": {"rule": "plain"}}, "the plain rule promotes nothing"),
        ({"name": 3}, "name must be of type str"),
    ],
)
def test_what_breaks_a_rule_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Policy.from_mapping(values)


def test_a_policy_file_reads_as_it_is_written() -> None:
    text = "name = 'strict'\n[contract]\npasses_needed = 4\n[evidence]\nalpha = 0.001\n"
    policy = Policy.from_mapping(tomllib.loads(text))
    assert (policy.name, policy.contract.passes_needed, policy.evidence.alpha) == ("strict", 4, 0.001)
    assert policy.vetoes == WHOLE.vetoes


def test_the_plain_rule_is_no_part_of_it() -> None:
    with pytest.raises(ConfigError, match="plain rule"):
        Policy(contract=LEGACY)


def test_retries_of_a_lineage_share_alpha() -> None:
    policy = EvidencePolicy()
    spent = [policy.alpha_of(version) for version in range(1, 20_001)]
    assert spent[0] == pytest.approx(0.06 / math.pi**2)
    assert spent[2] == pytest.approx(0.06 / (math.pi**2 * 9))
    assert 0.0099 < sum(spent) < 0.01
    assert policy.alpha_of(None) == 0.01
    with pytest.raises(ConfigError, match="lineage version 0"):
        policy.alpha_of(0)


def refusal(section: Any, values: dict[str, Any]) -> str:
    try:
        section.from_mapping(values)
    except ConfigError as error:
        return str(error)
    return ""


RANGES: dict[Any, dict[str, tuple[float, float]]] = {
    VetoPolicy: {
        "coverage_min": (0.0, 1.0),
        "recent_events": (1, 100_000),
        "distinct_min": (1, 10_001),
        "top_share_max": (0.0, 1.0),
        "streak_max": (1, 10**9),
        "within_share_min": (0.0, 1.0),
        "correlation_max": (0.0, 1.0),
        "homogeneity_z": (0.0, 100.0),
        "homogeneity_cycles": (4, 10**9),
        "leak_cycles": (2, 10**9),
        "leak_hit_rate": (0.5, 1.0),
        "leak_se": (0.0, 100.0),
        "leak_delay_z": (0.0, 100.0),
        "leak_edge_share": (0.0, 1.0),
    },
    EvidencePolicy: {
        "alpha": (1e-9, 0.2),
        "optimal_blocks": (1e-3, 1e9),
        "refit_bars": (1, 1_000_000),
        "ridge": (1e-6, 1e9),
        "residual_events": (1, 10**9),
        "residual_min": (1e-9, 10.0),
        "q_clip": (0.1, 100.0),
        "q_min": (0.0, 1.0),
        "half_life": (1.0, 1e6),
        "volatility_weight": (1.0, 1e6),
        "z_clip": (0.1, 100.0),
        "block_bars": (1, 1_000_000),
        "burn_blocks": (1, 1_000_000),
    },
    DeploymentPolicy: {
        "recalibration_events": (1, 10**9),
        "recalibration_ridge": (0.0, 1e9),
        "prediction_min": (0.0, 0.5),
        "gain_fail_z": (-100.0, 0.0),
        "pnl_z": (-100.0, 0.0),
        "cost": (0.0, 1.0),
        "slice_alpha": (1e-9, 0.5),
        "regime_cycles": (3, 10**9),
        "recent_blocks": (1, 10**9),
        "recent_share": (0.0, 1.0),
        "recent_z": (0.0, 100.0),
        "recent_fail_z": (-100.0, 0.0),
    },
    WatchPolicy: {
        "drift_share": (1e-6, 1.0),
        "alarm_odds": (1.0 + 1e-9, 1e12),
        "shift_p": (0.0, 1.0),
        "shift_psi": (0.0, 100.0),
        "guard_z": (0.0, 100.0),
        "guard_slack": (0.0, 1.0),
        "latency_ratio": (1.0, 1e6),
        "bars": (1, 10**9),
    },
}
"""As they were when thresholds were first recorded: what was allowed then may be recorded anywhere."""


@pytest.mark.parametrize(("section", "name"), [(section, name) for section, names in RANGES.items() for name in names])
def test_a_range_holds_both_its_ends_and_nothing_beyond(section: Any, name: str) -> None:
    assert set(RANGES[section]) == {field.name for field in dataclasses.fields(section)}
    for end, sign in zip(RANGES[section][name], (-1, 1), strict=True):
        step = 1 if isinstance(getattr(section(), name), int) else 1e-9 * max(1e-3, abs(end))
        # Another rule, that two thresholds must be in order, may refuse what the range allows.
        assert "expected" not in refusal(section, {name: end})
        with pytest.raises(ConfigError, match=rf"\.{name} = .*, expected"):
            section.from_mapping({name: end + sign * step})
