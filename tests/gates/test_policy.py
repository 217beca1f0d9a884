import dataclasses
import json
import math
from typing import Any

import pytest

from quantum_trader.core.errors import ConfigError
from quantum_trader.gates.policy import DEFAULT, LEGACY, ContractPolicy, named

FROZEN_DIGEST = "9ec120f3e67eb328b1a88c5d6daa83a85583c6b6ca0d92ecfc88b8505ec6d3ea"


def test_thresholds_are_those_of_the_specification() -> None:
    assert (DEFAULT.min_events, DEFAULT.min_cycles, DEFAULT.passes_needed) == (200, 20, 3)
    assert (DEFAULT.share_max, DEFAULT.spread_min, DEFAULT.agreement_min) == (0.70, 0.05, 0.55)
    assert (DEFAULT.se_max, DEFAULT.spread_se_max, DEFAULT.spread_slack) == (0.03, 0.01, 1e-12)
    assert (DEFAULT.bucket_events, DEFAULT.buckets_needed, DEFAULT.trend_z) == (50, 3, 1.645)
    assert (DEFAULT.drop_z_pass, DEFAULT.drop_z_fail) == (-1.0, -2.4)
    assert DEFAULT.bucket_edges == (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def test_the_digest_is_the_same_for_ever() -> None:
    # A window that began under this digest must be judged under it, whatever version of this package judges.
    assert DEFAULT.digest == FROZEN_DIGEST


def test_a_mapping_round_trips_through_json() -> None:
    for policy in (DEFAULT, LEGACY):
        again = ContractPolicy.from_mapping(json.loads(json.dumps(policy.to_mapping())))
        assert again == policy
        assert again.digest == policy.digest


OTHERS: dict[str, Any] = {
    "rule": "plain",
    "min_events": 201,
    "min_cycles": 21,
    "passes_needed": 4,
    "share_max": 0.71,
    "spread_min": 0.04,
    "spread_slack": 0.0,
    "agreement_min": 0.5,
    "se_max": 0.02,
    "spread_se_max": 0.02,
    "bucket_edges": [0.5, 0.75, 1.0],
    "bucket_events": 51,
    "buckets_needed": 2,
    "trend_z": 2,
    "drop_z_pass": -0.5,
    "drop_z_fail": -3,
}


def test_every_threshold_is_in_the_digest_and_the_name_is_not() -> None:
    fields = {field.name for field in dataclasses.fields(ContractPolicy)} - {"name"}
    assert fields == set(OTHERS)
    digests = {ContractPolicy.from_mapping({key: value}).digest for key, value in OTHERS.items()}
    assert len(digests | {DEFAULT.digest}) == len(OTHERS) + 1
    assert ContractPolicy(name="mine").digest == DEFAULT.digest


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share_maximum": 0.7}, "unknown key 'share_maximum'"),
        ({"share_max": "0.7"}, "share_max must be of type float"),
        ({"share_max": True}, "share_max must be of type float"),
        ({"share_max": math.nan}, "share_max must be of type float"),
        ({"share_max": 1.5}, "share_max = 1.5, expected 0 to 1"),
        ({"min_events": 200.0}, "min_events must be of type int"),
        ({"min_events": 0}, "min_events >= 1"),
        ({"min_cycles": 1}, "min_cycles >= 2"),
        ({"passes_needed": 0}, "passes_needed = 0, expected 1 to 4"),
        ({"rule": "lenient"}, "rule 'lenient'"),
        ({"bucket_edges": 0.5}, "bucket_edges must be a list"),
        ({"bucket_edges": [0.5, 0.5, 1.0]}, "must ascend"),
        ({"bucket_edges": [0.5, 1.0]}, "must ascend"),
        ({"bucket_edges": [0.5, 0.7, 1.1]}, "must ascend"),
        ({"drop_z_fail": -0.5}, "drop_z_fail must not exceed"),
    ],
)
def test_what_breaks_a_rule_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ContractPolicy.from_mapping(values)


RANGES: dict[str, tuple[float, float]] = {
    "passes_needed": (1, 4),
    "share_max": (0.0, 1.0),
    "spread_min": (0.0, 0.5),
    "spread_slack": (0.0, 1e-6),
    "agreement_min": (0.0, 1.0),
    "se_max": (0.0, 1.0),
    "spread_se_max": (0.0, 1.0),
    "buckets_needed": (2, 100),
    "trend_z": (0.0, 100.0),
    "drop_z_pass": (-2.4, 0.0),
    "drop_z_fail": (-100.0, -1.0),
}


@pytest.mark.parametrize("key", RANGES)
def test_a_range_holds_both_its_ends_and_nothing_beyond(key: str) -> None:
    step = 1 if isinstance(getattr(DEFAULT, key), int) else 1e-9
    for end, beyond in zip(RANGES[key], (-step, step), strict=True):
        assert getattr(ContractPolicy.from_mapping({key: end}), key) == end
        with pytest.raises(ConfigError, match=key):
            ContractPolicy.from_mapping({key: end + beyond})


def test_a_value_that_is_no_number_is_refused_in_the_constructor_too() -> None:
    with pytest.raises(ConfigError, match="se_max = nan"):
        ContractPolicy(se_max=math.nan)


def test_named_policies() -> None:
    assert (named("default"), named("legacy")) == (DEFAULT, LEGACY)
    with pytest.raises(ConfigError, match="known names are default, legacy"):
        named("lenient")
