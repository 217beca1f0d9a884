"""The three ways back, as plans: what each may do, and what none ever does.

- No rollback writes a grant. So none raises the influence of anything but a baseline whose grant stands already.
- Fast: the flag says shadow, the grant of what ran is revoked, the engine reloads. Never a vote for anybody. It needs
  no more than an env file that can be changed: ledger and artefacts may be damaged.
- Full: the artefact that held the last grant before the present one votes again, with the weight that it had. Its grant
  must stand: one that was revoked was revoked for a reason.
- Nuclear: env file and artefacts as they were backed up before the deployment, byte for byte. Where that file asks for
  a vote without a grant the ledger keeps the model in shadow. Where it would raise anybody else, or the model beyond
  its grant, it is refused before anything is changed: bytes cannot be restored in part.
- What ran loses its grant first, before anything else is changed. A way back that fails ends in shadow, never where it
  began.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from quantum_trader.core.errors import ConfigError, ReleaseError
from quantum_trader.core.predictions import MODELS
from quantum_trader.release.env_file import EnvPlan, plan_env, read_values, sha256
from quantum_trader.release.host_settings import HostSettings
from quantum_trader.release.influence import WEIGHTS, weights_text
from quantum_trader.release.ledger import voting
from quantum_trader.release.ledger_entries import Detail, Grant, Revoke, Rollback, State
from quantum_trader.release.plans import (
    WHOLE,
    Order,
    Planned,
    Step,
    backup_step,
    env_step,
    expected,
    kept_at,
    ledger_step,
    reload_step,
    restart_step,
    rollback_plan,
)
from quantum_trader.release.record import TRANSACTION
from quantum_trader.release.remembered import Deployment, baseline, last_grant
from quantum_trader.release.snapshot import LEDGER, Held, Snapshot, state_of


def plan_fast(snapshot: Snapshot, model: str, settings: HostSettings, order: Order) -> Planned:
    """To shadow, at once.

    Args:
        snapshot: How the host stands; may be lenient.
        model: Short name.
        settings: The host.
        order: Who and why.

    Raises:
        ConfigError: if the env file cannot be changed without guessing.
    """
    env = _to_shadow(snapshot.env, model, settings)
    try:
        before = snapshot.state_of(model)
    except ConfigError:
        # Weights that nobody can read; the flag is.
        before = State()
    after = State(role="shadow", artefact=before.artefact) if before.artefact else State()
    ran = before.artefact or _last_granted(snapshot, model)
    details = [*_revocations(snapshot, model, ran), _rollback(model, before, after, order, "fast")]
    reload = reload_step(settings, snapshot.values, model)
    # Either half ends the vote, so neither waits for the other: a ledger that cannot be written is told and passed, and
    # where the env file cannot be written the engine still learns of the ledger.
    reload["undo_from"] = 0
    steps = [
        ledger_step(settings, order, details, optional=True),
        backup_step(settings, env.before, order),
        env_step(settings, env, order, list(env.parts), sha256(env.after)),
        reload,
    ]
    return Planned(rollback_plan("fast", model, steps, order), env, before, after)


def plan_full(
    snapshot: Snapshot, model: str, settings: HostSettings, order: Order, known: Sequence[Deployment]
) -> Planned:
    """The baseline votes again.

    Raises:
        ConfigError: if the env file cannot be changed without guessing.
        ReleaseError: if there is no baseline, or nobody has its bytes.
    """
    before = snapshot.state_of(model)
    found = baseline(snapshot.entries, model, before.artefact)
    if found is None:
        raise ReleaseError(f"{model}: no other artefact holds a grant, so there is no baseline; --fast is the way back")
    digest, weight = found
    artefact = snapshot.held.get(digest) or next(
        (one.previous for one in reversed(known) if one.previous is not None and one.previous.digest == digest), None
    )
    if artefact is None:
        raise ReleaseError(f"{model}: the baseline {digest[:16]} is not on this host; bring it back, or use --fast")
    values = {
        f"{model.upper()}_MODEL_PATH": str(artefact.folder),
        f"{model.upper()}_SHADOW_ONLY": "false",
        WEIGHTS: weights_text(snapshot.values.get(WEIGHTS, ""), model, weight),
    }
    env = plan_env(snapshot.env, values, str(settings.env_file))
    # Not what the ledger hopes for but what the engine will do: an import, for one, never votes.
    after = state_of(snapshot, model, read_values(env.after, str(settings.env_file)))
    if after.role == "none":
        after = State(role="voter", artefact=digest, weight=weight)
    return _two_halves("full", snapshot, model, settings, order, env, (before, after), [_repair(settings, artefact)])


def plan_nuclear(
    snapshot: Snapshot, model: str, settings: HostSettings, order: Order, deployment: Deployment, backup: bytes
) -> Planned:
    """Everything as it was backed up before a deployment.

    Args:
        snapshot: How the host stands.
        model: Short name.
        settings: The host.
        order: Who and why.
        deployment: What is taken back.
        backup: The env file's bytes before it.

    Raises:
        ReleaseError: if the backup was changed, or would give anybody more influence than now or than a grant gives.
    """
    if sha256(backup) != deployment.backup_sha256:
        raise ReleaseError(f"backup {deployment.backup}: is not as it was written; nothing is changed")
    before = snapshot.state_of(model)
    values = read_values(backup, str(deployment.backup))
    ledgers = snapshot.values.get(LEDGER, ""), values.get(LEDGER, "")
    if ledgers[0] != ledgers[1]:
        raise ReleaseError(
            f"backup {deployment.backup}: names the ledger {ledgers[1]!r}, now it is {ledgers[0]!r}: who would vote by "
            f"other grants cannot be told; nothing is changed. --fast takes {model}'s vote"
        )
    revoked = {before.artefact, deployment.artefact}
    entries = [e for e in snapshot.entries if not (isinstance(e.detail, Grant) and e.detail.artefact in revoked)]
    without = Snapshot(snapshot.env, snapshot.values, entries, snapshot.named, _with(snapshot, deployment))
    after = state_of(without, model, values)
    shown = frozenset({f"{model.upper()}_MODEL_PATH", f"{model.upper()}_SHADOW_ONLY", WEIGHTS})
    _refuse_raises(snapshot, without, model, values, deployment.backup)
    env = EnvPlan(snapshot.env, backup, ((0, 10**9),), shown)
    steps: list[Step] = [] if deployment.previous is None else [_repair(settings, deployment.previous)]
    used = {path for name, path in values.items() if name.endswith("_MODEL_PATH")}
    last: list[Step] = []
    if deployment.placed and deployment.folder not in used:
        last = [{"kind": "remove", "name": f"remove {deployment.folder}", "target": deployment.folder}]
    revocations = _revocations(snapshot, model, deployment.artefact)
    return _two_halves(
        "nuclear", snapshot, model, settings, order, env, (before, after), steps, last, revocations, deployment.backup
    )


def _refuse_raises(now: Snapshot, then: Snapshot, model: str, values: Mapping[str, str], backup: PurePosixPath) -> None:
    """Refuse where a backup would raise anybody.

    Args:
        now: How the host stands.
        then: The same without what is revoked.
        model: The one that goes back: a baseline votes again, up to its own grant.
        values: What the backup says.
        backup: Its path.
    """
    for name in MODELS:
        before, after = now.state_of(name), state_of(then, name, values)
        most = influence(before)
        if name == model:
            granted = last_grant(then.entries, name, {after.artefact})
            most = max(most, granted[1] if granted else 0.0)
        # A weight goes through decimal text and back without a loss.
        if influence(after) <= most:
            continue
        keys = (f"{name.upper()}_MODEL_PATH", f"{name.upper()}_SHADOW_ONLY", WEIGHTS)
        lines = [
            f"{key} is {now.values.get(key, '')!r} now and {values.get(key, '')!r} there"
            for key in keys
            if now.values.get(key) != values.get(key)
        ]
        raise ReleaseError(
            f"backup {backup}: would raise {name} from {_words(before)} to {_words(after)}, and no way back does that "
            f"({'; '.join(lines) or 'its grants say so'}); nothing is changed. --fast takes {model}'s vote; whatever "
            "else of the backup is wanted goes into the env file by hand, and influence by quantum promote and weight"
        )


def influence(state: State) -> float:
    """The nominal weight that a model votes with; 0 for whoever does not vote."""
    return state.weight if state.role == "voter" else 0.0


def _words(state: State) -> str:
    return f"{state.role} with weight {state.weight:g}" if state.role == "voter" else state.role


def _two_halves(
    kind: str,
    snapshot: Snapshot,
    model: str,
    settings: HostSettings,
    order: Order,
    env: EnvPlan,
    states: tuple[State, State],
    artefacts: list[Step],
    last: Sequence[Step] = (),
    revocations: Sequence[Detail] = (),
    source: PurePosixPath | None = None,
) -> Planned:
    """First what takes influence away, with a fallback in shadow; then the other state, once it has proved itself."""
    before, after = states
    middle = State(role="shadow", artefact=before.artefact) if before.artefact else State()
    shadow, shadow_sha256 = _fallback(snapshot.env, model, settings)
    revokes = dict.fromkeys([*_revocations(snapshot, model, before.artefact), *revocations])
    first: list[Detail] = [*revokes, _rollback(model, before, middle, order, kind)]
    flip = env_step(settings, env, order, shadow, shadow_sha256)
    if source is not None:
        flip["from"] = str(source)
    values = read_values(env.after, str(settings.env_file))
    restart = restart_step(settings, values, expected(model, after))
    if before.role == "voter":
        # Whatever fails once the ledger was begun: flag and engine are led to shadow too, or it would go on voting.
        flip["undo_from"] = restart["undo_from"] = 1
    steps = [
        backup_step(settings, env.before, order),
        ledger_step(settings, order, first),
        *artefacts,
        flip,
        restart,
        *last,
        ledger_step(
            settings,
            _second(order),
            [_rollback(model, middle, after, _second(order), kind)],
        ),
    ]
    return Planned(rollback_plan(kind, model, steps, order), env, before, after)


def _second(order: Order) -> Order:
    """The ledger tells the two halves apart by their transactions."""
    return Order(f"{order.transaction}-2", order.by, order.reason, order.facts)


def _to_shadow(content: bytes, model: str, settings: HostSettings) -> EnvPlan:
    return plan_env(content, {f"{model.upper()}_SHADOW_ONLY": "true"}, str(settings.env_file))


def _fallback(content: bytes, model: str, settings: HostSettings) -> tuple[list[Any], str]:
    """How the env file must look where the way back fails: the model in shadow, everything else as it was."""
    try:
        env = _to_shadow(content, model, settings)
    except ConfigError:
        # A file that nobody can change safely; the ledger, where the grant is revoked by then, keeps the vote away.
        return WHOLE, sha256(content)
    return list(env.parts), sha256(env.after)


def _revocations(snapshot: Snapshot, model: str, artefact: str) -> list[Detail]:
    granted = voting(snapshot.entries).get(model, set())
    return [Revoke(model=model, artefact=artefact)] if artefact in granted else []


def _last_granted(snapshot: Snapshot, model: str) -> str:
    """What may run although its manifest cannot be read: an engine keeps what it has loaded."""
    found = baseline(snapshot.entries, model, current="")
    return found[0] if found is not None and snapshot.values.get(f"{model.upper()}_MODEL_PATH") else ""


def _rollback(model: str, before: State, after: State, order: Order, kind: str) -> Rollback:
    facts = {**order.facts, TRANSACTION: order.transaction, "rollback": kind}
    return Rollback(model=model, artefact=after.artefact, before=before, after=after, facts=facts)


def _repair(settings: HostSettings, artefact: Held) -> Step:
    """Nothing where the artefact is whole; else its kept copy takes its place."""
    return {
        "kind": "artefact",
        "name": f"verify {artefact.folder.name}",
        "staged": str(kept_at(settings, artefact.digest)),
        "target": str(artefact.folder),
        "files": artefact.files_json(),
        "owner": settings.owner or None,
        "repair": True,
    }


def _with(snapshot: Snapshot, deployment: Deployment) -> Mapping[str, Held]:
    if deployment.previous is None:
        return snapshot.held
    return {**snapshot.held, deployment.previous.digest: deployment.previous}
