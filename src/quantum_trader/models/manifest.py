"""The manifest of an artefact: what it was trained on, how it is served, and the digest of every file beside it.

Bytes: UTF-8 JSON, keys in declared order, two spaces of indent, one newline at the end, floats in their shortest exact
form. The SHA-256 of these bytes is the artefact's digest: the manifest holds every other file's digest, so one flipped
byte anywhere either changes the artefact's digest or breaks its verification.
"""

import hashlib
import math
import re
from typing import Literal

import msgspec

from quantum_trader.core.errors import ArtefactError
from quantum_trader.core.predictions import MODELS

FORMAT = 1
"""Version of the manifest's layout; it only increases."""

MANIFEST_FILE = "manifest.json"
MODEL_FILE = "model.onnx"

UNKNOWN_FEATURES = "unknown"
"""Feature schema of an imported checkpoint: nobody knows what it was trained on, so it stays in shadow."""

Uses = Literal["row", "sequence"]

NAME = re.compile(r"(?P<name>[a-z0-9]+(?:-[a-z0-9]+)*)_v(?P<stamp>\d{8}_\d{6})", flags=re.ASCII)
"""Of an artefact's folder."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Digest and size of one file of the artefact."""

    sha256: str
    bytes: int


class ActionThresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """BUY at or above `buy_above`, SELL at or below `sell_below`, probabilities of a rise."""

    buy_above: float
    sell_below: float


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Horizon and delay of the label, in bars."""

    horizon: int
    delay: int


class SplitRows(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows in each part of the time-ordered split."""

    train: int
    validation: int
    test: int


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model was trained on. Times are milliseconds since the epoch, UTC, of the first and last row's bar."""

    bars_sha256: str
    symbols: tuple[str, ...]
    timeframe: str
    window_first_ms: int
    window_last_ms: int
    rows: SplitRows
    seed: int
    balanced: bool


class PartMetrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the served file does on one part; `prior` is the share of rises in the training part.

    `prior_log_loss` is the log-loss of always answering the prior: what knowing nothing costs.
    """

    log_loss: float
    brier: float
    auc: float
    accuracy: float
    prior: float
    prior_log_loss: float


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Metrics of the ONNX file itself, on the rows that were not trained on."""

    validation: PartMetrics
    test: PartMetrics


class Parity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Proof that the ONNX file answers as the trained model did: largest |dp| and action flips over `rows` rows."""

    rows: int
    max_abs_dp: float
    flips: int


class FeatureStatistics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Mean, standard deviation and nine deciles of one feature over the training part, for drift alarms."""

    mean: float
    std: float
    deciles: tuple[float, ...]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that is known of an artefact.

    Attributes:
        format: Version of this layout.
        model: Short name, one of `core.predictions.MODELS`.
        name: Folder name, ``NAME_vYYYYMMDD_HHMMSS``.
        created: When it was made, ISO 8601 in UTC.
        lineage: The line of retrainings it belongs to.
        version: Number within the lineage from 1, for the alpha budget.
        uses: Which input it takes: the tabular row (F,) or the sequence (128, 8).
        features: Digest of the feature schema, or ``unknown``.
        label: Horizon and delay.
        thresholds: From probability to action.
        calibration: None: the probabilities are served as the model gives them.
        training: None for an imported checkpoint, as are metrics.
        feature_statistics: By feature name; empty for an imported checkpoint.
    """

    format: int
    model: str
    name: str
    created: str
    lineage: str
    version: int
    uses: Uses
    features: str
    label: Label
    thresholds: ActionThresholds
    calibration: None
    files: dict[str, FileEntry]
    training: Training | None
    metrics: Metrics | None
    parity: Parity
    libraries: dict[str, str]
    feature_statistics: dict[str, FeatureStatistics]

    @property
    def schema_known(self) -> bool:
        """Whether the artefact says which features it was trained on; without it, it can never vote."""
        return self.features != UNKNOWN_FEATURES


def render(manifest: Manifest) -> bytes:
    """The manifest's one form as bytes."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def digest(raw: bytes) -> str:
    """SHA-256 as 64 hexadecimal characters."""
    return hashlib.sha256(raw).hexdigest()


def parse(raw: bytes, where: str) -> Manifest:
    """Read a manifest strictly: unknown or missing keys, wrong types and values outside their rule are refused.

    Args:
        raw: Bytes of the file.
        where: What to call it in an error.

    Raises:
        ArtefactError: naming the place and the rule.
    """
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ArtefactError(f"artefact {where}: {MANIFEST_FILE} is not a manifest: {error}") from error
    problem = next((text for ok, text in _rules(manifest) if not ok), None)
    if problem is None and render(manifest) != raw:
        problem = "is not in its one form (keys in order, two spaces of indent)"
    if problem is not None:
        raise ArtefactError(f"artefact {where}: {MANIFEST_FILE}: {problem}")
    return manifest


def _rules(manifest: Manifest) -> list[tuple[bool, str]]:
    """Every rule that types cannot say, with the sentence for where it is broken."""
    buy, sell = manifest.thresholds.buy_above, manifest.thresholds.sell_below
    known = not manifest.schema_known or _SHA256.fullmatch(manifest.features) is not None
    entries = manifest.files.items()
    return [
        (manifest.format == FORMAT, f"format {manifest.format}: this program reads {FORMAT}"),
        (manifest.model in MODELS, f"model {manifest.model!r}: expected one of {', '.join(MODELS)}"),
        (NAME.fullmatch(manifest.name) is not None, f"name {manifest.name!r}: expected NAME_vYYYYMMDD_HHMMSS"),
        (manifest.version >= 1, f"version {manifest.version}: expected at least 1"),
        (known, f"features {manifest.features!r}: expected a SHA-256 or {UNKNOWN_FEATURES!r}"),
        (manifest.label.horizon >= 1 and manifest.label.delay >= 0, "label: horizon or delay out of range"),
        (
            math.isfinite(buy) and math.isfinite(sell) and 0.0 <= sell <= buy <= 1.0,
            f"thresholds: 0 <= sell_below {sell} <= buy_above {buy} <= 1 does not hold",
        ),
        (MODEL_FILE in manifest.files, f"files: {MODEL_FILE} is missing"),
        (MANIFEST_FILE not in manifest.files, f"files: {MANIFEST_FILE} cannot hold its own digest"),
        (all(_FILE_NAME.fullmatch(name) for name, _ in entries), "files: a name is not a plain file name"),
        (all(_SHA256.fullmatch(entry.sha256) for _, entry in entries), "files: a digest is not a SHA-256"),
    ]
