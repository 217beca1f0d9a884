"""What the agent is to do, as data: the steps of a deployment and what they have in common with the ways back."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from quantum_trader.core.errors import ReleaseError
from quantum_trader.release.env_file import EnvPlan, plan_env, sha256
from quantum_trader.release.host_settings import HostSettings
from quantum_trader.release.ledger_entries import Deploy, Detail, State
from quantum_trader.release.record import TRANSACTION, to_json
from quantum_trader.release.snapshot import Held, Snapshot

FORMAT = 1
WHOLE = [[0, 1_000_000_000]]
"""All lines of a file."""

LEDGER_S = 60.0
RELOAD_S = 5.0
"""How long a reload gets before the engine is restarted instead; one that is taken takes tenths of a second."""

DEFAULT_HEALTH = "127.0.0.1:9464"

Step = dict[str, Any]


@dataclass(frozen=True)
class Order:
    """Who wants it, when and why.

    Attributes:
        transaction: Its name, ``YYYYMMDD_HHMMSS-xxxxxxxx`` (UTC).
        by: Who.
        reason: Why.
        facts: Whatever else is to stand in the ledger: host, commit.
    """

    transaction: str
    by: str
    reason: str
    facts: Mapping[str, str]

    @property
    def stamp(self) -> str:
        """``YYYYMMDD_HHMMSS``."""
        return self.transaction.partition("-")[0]

    def entries(self, details: list[Detail]) -> str:
        """Ledger entries as the host's recorder reads them."""
        return to_json(self.by, self.reason, details)


@dataclass(frozen=True)
class Planned:
    """A plan for the agent and what to tell of it before it is carried out."""

    plan: dict[str, Any]
    env: EnvPlan
    before: State
    after: State

    @property
    def names(self) -> list[str]:
        """The steps, a few words each."""
        return [str(step["name"]) for step in self.plan["steps"]]


def staged(settings: HostSettings, artefact: Held, transaction: str) -> PurePosixPath:
    """Where an artefact is sent before the agent puts it in place."""
    return settings.models / f".{artefact.folder.name}.{transaction}.sent"


def plan_deploy(snapshot: Snapshot, artefact: Held, settings: HostSettings, order: Order) -> Planned:
    """Bring an artefact to a host as a shadow.

    Args:
        snapshot: How the host stands.
        artefact: What is brought, with its folder on the host.
        settings: The host.
        order: Who and why.

    Raises:
        ConfigError: if the env file cannot be changed without guessing.
        ReleaseError: if nobody would vote afterwards.
    """
    model = artefact.model
    flag = f"{model.upper()}_SHADOW_ONLY"
    values = {f"{model.upper()}_MODEL_PATH": str(artefact.folder), flag: "true"}
    env = plan_env(snapshot.env, values, str(settings.env_file))
    before, after = snapshot.state_of(model), State(role="shadow", artefact=artefact.digest)
    others = [m for m in snapshot.named if m != model and snapshot.state_of(m).role == "voter"]
    if not others:
        raise ReleaseError(f"no other model than {model} votes: with it in shadow the engine would have no voter")
    facts = {**order.facts, TRANSACTION: order.transaction, "env_before": sha256(env.before)}
    entry = Deploy(
        model=model,
        artefact=artefact.digest,
        before=before,
        after=after,
        facts={**facts, "env_after": sha256(env.after)},
    )
    kept = snapshot.named.get(model)
    steps = [
        backup_step(settings, env.before, order),
        *([keep_step(settings, kept)] if kept is not None else []),
        {
            "kind": "artefact",
            "name": f"place {artefact.folder.name}",
            "staged": str(staged(settings, artefact, order.transaction)),
            "target": str(artefact.folder),
            "files": artefact.files_json(),
            "owner": settings.owner or None,
        },
        env_step(settings, env, order, WHOLE, sha256(env.before)),
        restart_step(settings, snapshot.values, expected(model, after)),
        ledger_step(settings, order, [entry]),
    ]
    return Planned(_plan("deploy", model, steps, order, kept, artefact), env, before, after)


def _plan(
    kind: str, model: str, steps: list[Step], order: Order, kept: Held | None, artefact: Held | None
) -> dict[str, Any]:
    facts = {
        "by": order.by,
        "reason": order.reason,
        "artefact": "" if artefact is None else artefact.digest,
        "folder": "" if artefact is None else str(artefact.folder),
        "previous": "" if kept is None else kept.digest,
        "previous_folder": "" if kept is None else str(kept.folder),
        "previous_files": {} if kept is None else kept.files_json(),
        "backup": next((step["to"] for step in steps if step["kind"] == "backup"), ""),
        "backup_sha256": next((step["sha256"] for step in steps if step["kind"] == "backup"), ""),
    }
    return {"format": FORMAT, "id": order.transaction, "kind": kind, "model": model, "facts": facts, "steps": steps}


def rollback_plan(kind: str, model: str, steps: list[Step], order: Order) -> dict[str, Any]:
    """The plan of a way back."""
    return _plan(f"rollback-{kind}", model, steps, order, None, None)


def backup_step(settings: HostSettings, content: bytes, order: Order) -> Step:
    """A copy of the env file beside it."""
    to = settings.env_file.with_name(f"{settings.env_file.name}.bak.{order.stamp}")
    name = f"back up the env file as {to.name}"
    return {"kind": "backup", "name": name, "path": str(settings.env_file), "to": str(to), "sha256": sha256(content)}


def keep_step(settings: HostSettings, artefact: Held) -> Step:
    """A copy of an artefact that is in use, for the day when its folder is damaged or gone."""
    return {
        "kind": "keep",
        "name": f"keep a copy of {artefact.folder.name}",
        "folder": str(artefact.folder),
        "to": str(kept_at(settings, artefact.digest)),
        "files": artefact.files_json(),
    }


def kept_at(settings: HostSettings, digest: str) -> PurePosixPath:
    """Where the copy of an artefact is kept."""
    return settings.state / "kept" / digest


def env_step(settings: HostSettings, env: EnvPlan, order: Order, undo: list[Any], undo_sha256: str) -> Step:
    """The flip; its way back is made of the backup."""
    backup = settings.env_file.with_name(f"{settings.env_file.name}.bak.{order.stamp}")
    return {
        "kind": "env",
        "name": "write the env file",
        "path": str(settings.env_file),
        "before": sha256(env.before),
        "after": sha256(env.after),
        "parts": env.parts,
        "undo": {"from": str(backup), "parts": undo, "sha256": undo_sha256},
    }


def restart_step(settings: HostSettings, values: Mapping[str, str], lines: list[list[str]]) -> Step:
    """Restart, readiness, and what the engine must say of itself then."""
    address = values.get("QUANTUM_HEALTH_ADDRESS", DEFAULT_HEALTH).replace("0.0.0.0", "127.0.0.1")  # noqa: S104
    probes: list[Step] = [{"argv": settings.active_argv()}]
    expect: list[Step] = []
    if address:
        probes.append({"address": address, "path": "/health/ready"})
        expect.append({"address": address, "path": "/metrics", "lines": lines})
    return {
        "kind": "restart",
        "name": f"restart {settings.unit} and wait until it is ready",
        "argv": settings.restart_argv(),
        "probes": probes,
        "expect": expect,
        "timeout_s": settings.ready_timeout_s,
        "settle_s": settings.settle_s,
    }


def reload_step(settings: HostSettings, values: Mapping[str, str], model: str) -> Step:
    """The engine takes a vote away while it runs; where it does not say so soon, it is restarted.

    Expected is that the model is in shadow, and no more: one whose artefact is broken gives no answer, and no vote. One
    that the env file does not name must not vote.
    """
    words = ["quantum_model_info{", f'model="{model}"']
    named = values.get(f"{model.upper()}_MODEL_PATH", "")
    step = restart_step(settings, values, [[*words, 'role="shadow"']] if named else [])
    for page in step["expect"]:
        page["absent"] = [[*words, 'role="voter"']]
    argv = settings.reload_argv()
    # Without an address nobody could say whether it took it.
    if not argv or not step["expect"]:
        return step
    name = f"reload {settings.unit}, restart it where that is not enough, until {model} is in shadow"
    return {**step, "name": name, "reload": {"argv": argv, "timeout_s": RELOAD_S}}


def expected(model: str, state: State) -> list[list[str]]:
    """Words of lines that the engine's metrics must have once a model stands like that."""
    if state.role == "none":
        return []
    words = [f'model="{model}"', f'role="{state.role}"', f'artefact="{state.artefact}"']
    lines = [["quantum_model_info{", *words]]
    if state.role == "shadow":
        lines.append([f'quantum_shadow_up{{model="{model}"}} 1.0'])
    return lines


def ledger_step(settings: HostSettings, order: Order, details: list[Detail], *, optional: bool = False) -> Step:
    """Entries of the host's ledger, appended by the host's own program."""
    module = ["-m", "quantum_trader.release.record", str(settings.env_file), order.transaction]
    return {
        "kind": "command",
        "name": "write the ledger",
        "argv": [settings.engine_python, *module],
        "stdin": order.entries(details),
        "timeout_s": LEDGER_S,
        "optional": optional,
    }
