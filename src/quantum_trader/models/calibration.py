"""The file of a calibration, ``NAME.calibration.json``: a map, whose it is, and how it did on what came after each fit.

Bytes, as a manifest's: UTF-8 JSON, keys in declared order, two spaces of indent, one newline at the end, floats in
their shortest exact form. The SHA-256 of these bytes is the calibration's digest. Whoever uses one says where it lies
and which digest it has, ``FILE@DIGEST``: a file that was exchanged is not used.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from quantum_trader.core.calibration import Calibration, Curve, IsotonicCurve, PlattCurve
from quantum_trader.core.errors import ArtefactError, CalibrationError
from quantum_trader.core.predictions import DISPLAY_NAMES, MODELS
from quantum_trader.models.manifest import digest
from quantum_trader.models.regular import read_regular

FORMAT = 1
"""Version of the file's layout; it only increases."""

SUFFIX = ".calibration.json"

_LIMIT = 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")


class PlattMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="method", tag="platt"):
    """Of `core.calibration.PlattCurve`."""

    intercept: float
    slope: float


class IsotonicMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="method", tag="isotonic"):
    """Of `core.calibration.IsotonicCurve`."""

    p: tuple[float, ...]
    calibrated: tuple[float, ...]


class FitWindow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What it was fitted on.

    Times are milliseconds since the epoch, UTC: opening of the first and of the last decision's bar, and the close that
    told the last outcome.
    """

    timeframe: str
    symbols: tuple[str, ...]
    first_ms: int
    last_ms: int
    resolved_ms: int
    events: int
    cycles: int


class Number(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A number and its standard error, clustered by cycle."""

    value: float
    se: float


class Scores(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of `gates.quality.Quality`."""

    ece: Number
    brier: Number
    reliability: Number
    resolution: Number
    uncertainty: Number
    within: Number


class Judgement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The walk-forward: events that came after the fit which mapped them. `gain` is how much the Brier score fell."""

    events: int
    cycles: int
    gain: Number
    before: Scores
    after: Scores
    helps: bool


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Thresholds under which it was made, of `gates.calibration_fit.RecalibrationPolicy`."""

    parts: int
    bins: int
    platt_events: int
    isotonic_events: int
    min_cycles: int
    clip: float
    gain_z: float


class CalibrationFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that is known of a calibration.

    Attributes:
        format: Version of this layout.
        model: Short name, one of `core.predictions.MODELS`.
        artefact: Digest of the artefact that it belongs to.
        map: Method and parameters.
        window: What it was fitted on.
        judgement: How the method did walking forward through that window.
        rules: Thresholds.
        forced: Whether it was written although it does not help.
    """

    format: int
    model: str
    artefact: str
    map: PlattMap | IsotonicMap
    window: FitWindow
    judgement: Judgement
    rules: Rules
    forced: bool


def map_of(curve: Curve) -> PlattMap | IsotonicMap:
    """A curve as it stands in the file."""
    if isinstance(curve, PlattCurve):
        return PlattMap(curve.intercept, curve.slope)
    return IsotonicMap(curve.p, curve.calibrated)


def curve_of(stored: PlattMap | IsotonicMap) -> Curve:
    """The curve that stands in a file.

    Raises:
        CalibrationError: if it is no monotone map of [0, 1].
    """
    if isinstance(stored, PlattMap):
        return PlattCurve(stored.intercept, stored.slope)
    return IsotonicCurve(stored.p, stored.calibrated)


def render(content: CalibrationFile) -> bytes:
    """The file's one form as bytes."""
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def parse(raw: bytes, where: str) -> CalibrationFile:
    """Read a file strictly: unknown or missing keys, wrong types and values outside their rule are refused.

    Args:
        raw: Bytes of the file.
        where: What to call it in an error.

    Raises:
        CalibrationError: naming the place and the rule.
    """
    try:
        content = msgspec.json.decode(raw, type=CalibrationFile)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CalibrationError(f"calibration {where}: is not a calibration: {error}") from error
    try:
        curve_of(content.map)
    except CalibrationError as error:
        raise CalibrationError(f"calibration {where}: {error}") from error
    problem = next((text for ok, text in _rules(content) if not ok), None)
    if problem is None and render(content) != raw:
        problem = "is not in its one form (keys in order, two spaces of indent)"
    if problem is not None:
        raise CalibrationError(f"calibration {where}: {problem}")
    return content


def _rules(content: CalibrationFile) -> list[tuple[bool, str]]:
    """Every rule that types cannot say, with the sentence for where it is broken."""
    window, judged = content.window, content.judgement
    return [
        (content.format == FORMAT, f"format {content.format}: this program reads {FORMAT}"),
        (content.model in MODELS, f"model {content.model!r}: expected one of {', '.join(MODELS)}"),
        (_SHA256.fullmatch(content.artefact) is not None, f"artefact {content.artefact!r}: expected a SHA-256"),
        (window.first_ms <= window.last_ms < window.resolved_ms, "window: its times are not in order"),
        (bool(window.symbols), "window: no symbol"),
        (window.events >= judged.events >= 1, "more events were scored than there are, or none"),
        (judged.helps or content.forced, "it does not help, and nobody forced it"),
    ]


def write_calibration(path: Path, content: CalibrationFile) -> str:
    """Write a file, whole or not at all, and return its digest.

    Raises:
        CalibrationError: if it breaks a rule, is named otherwise than ``NAME.calibration.json``, exists, or cannot be
            written.
    """
    raw = render(content)
    parse(raw, str(path))
    if not path.name.endswith(SUFFIX) or path.name == SUFFIX:
        raise CalibrationError(f"calibration {path}: expected a name like NAME{SUFFIX}")
    if path.exists() or path.is_symlink():
        raise CalibrationError(f"calibration {path}: exists already; calibrations are never overwritten")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_durably(path, raw)
    except OSError as error:
        raise CalibrationError(f"calibration {path}: cannot be written ({error.strerror})") from error
    return digest(raw)


def _write_durably(path: Path, raw: bytes) -> None:
    draft = path.with_name(f".{path.name}.part")
    try:
        with draft.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def load_calibration(reference: str) -> Calibration:
    """The calibration that ``FILE@DIGEST`` names.

    Raises:
        ArtefactError: if the reference has no digest, or the file is missing, changed, foreign or breaks a rule.
    """
    name, at, expected = reference.strip().rpartition("@")
    if not at or not name or not _SHA256.fullmatch(expected):
        raise CalibrationError(f"calibration {reference!r}: expected FILE@DIGEST, the digest 64 hexadecimal characters")
    path = Path(name)
    raw = read_regular(path, f"calibration {name}", _LIMIT)
    found = digest(raw)
    if found != expected:
        raise CalibrationError(
            f"calibration {name}: was changed: SHA-256 is {found[:16]}, {expected[:16]} is asked for"
        )
    content = parse(raw, name)
    return Calibration(found, content.model, content.artefact, curve_of(content.map))


def voters_calibrations(
    references: Mapping[str, str], voters: Mapping[str, str]
) -> tuple[dict[str, Calibration], dict[str, str]]:
    """Calibrations of the models that vote, and of the others why theirs counts for nothing.

    Args:
        references: By model, ``FILE@DIGEST``.
        voters: By model that votes, the digest of the artefact that is loaded.

    Raises:
        ArtefactError: if a voter's cannot be loaded or belongs to another artefact. The vote would be another one than
            the operator asked for.
    """
    found: dict[str, Calibration] = {}
    idle: dict[str, str] = {}
    for model, reference in references.items():
        if model not in voters:
            idle[model] = "it does not vote, so its calibration counts for nothing"
            continue
        try:
            found[model] = _belonging(load_calibration(reference), model, voters[model])
        except ArtefactError as error:
            raise CalibrationError(f"{DISPLAY_NAMES[model]} is meant to vote calibrated and cannot: {error}") from error
    return found, idle


def _belonging(calibration: Calibration, model: str, artefact: str) -> Calibration:
    if calibration.model != model:
        raise CalibrationError(f"calibration {calibration.digest[:16]}: it is one of {calibration.model}")
    if calibration.artefact != artefact:
        raise CalibrationError(
            f"calibration {calibration.digest[:16]}: it belongs to artefact {calibration.artefact[:16]}, "
            f"{artefact[:16]} is loaded"
        )
    return calibration
