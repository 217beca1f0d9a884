"""Who speaks at this moment, and how that changes while the engine runs: between two batches, whole or not at all.

- A reload that was asked for before a batch began is waited for, so that a vote that was taken back is gone from that
  very batch. Only a reading that takes longer than `PATIENCE_S` is not: then the next batch has it.
- Voters are never loaded here, only let go: their numbers, weights and order are those of the start.
- The log says once for every reload what was taken, what was not, and why.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from quantum_trader.core.predictions import Role
from quantum_trader.engine.loading import Cast, ShadowSpec
from quantum_trader.engine.metrics import Running
from quantum_trader.engine.oversight import Oversight
from quantum_trader.engine.pulse import Pulse
from quantum_trader.engine.reload import Standing
from quantum_trader.engine.reloading import Prepared, Reloader
from quantum_trader.engine.shadow import ShadowRing
from quantum_trader.models.inference import OnnxModel

log = logging.getLogger(__name__)

PATIENCE_S = 2.0
"""Longest wait of a batch for a reload that is being read."""


class Stage:
    """Voters, shadows and the reloads between them. For the deciding thread.

    Args:
        cast: As it was loaded.
        shadows: Its ring.
        standing: What the settings said when it was loaded.
        reloader: Reads them again.
        onlookers: Are told.
        describe: From voters' and shadows' digests to what metrics show.
    """

    def __init__(
        self,
        cast: Cast,
        shadows: ShadowRing,
        standing: Standing,
        reloader: Reloader,
        onlookers: tuple[Pulse, Oversight],
        describe: Callable[[Mapping[str, str], Mapping[str, str]], Running],
    ) -> None:
        self.cast, self.shadows = cast, shadows
        self._standing, self._reloader = standing, reloader
        self._pulse, self._oversight = onlookers
        self._describe = describe

    @property
    def voters(self) -> Mapping[str, OnnxModel]:
        """Who votes, in breakdown order."""
        return self.cast.voters

    def turn(self, now_us: int, *, wait: bool) -> None:
        """Between two batches: carry out what is due.

        Args:
            now_us: Microseconds since the epoch.
            wait: A batch is about to begin: a reload that was asked for comes first.
        """
        if self._reloader.begin(self._standing):
            self._pulse.reloading()
        ended, prepared = self._reloader.result(PATIENCE_S if wait else 0.0)
        if prepared is not None:
            self._carry_out(prepared, now_us)
        if ended:
            self._pulse.reloaded()
        if not wait:
            # Bars in hand are not kept waiting for it.
            self.shadows.look()
        followed = self.shadows.turn()
        if followed:
            self._show(followed, {spec.model: "followed" for spec in followed}, now_us)

    def _carry_out(self, prepared: Prepared, now_us: int) -> None:
        plan, parts = prepared.plan, {**self._standing.parts}
        for model in plan.removed:
            self.shadows.dismiss(model)
            del parts[model]
        for model in plan.started:
            parts[model] = prepared.wanted.parts[model]
            self.shadows.admit(prepared.shadows[model])
        self._standing = replace(self._standing, parts=parts)
        self._log(prepared)
        if plan.taken:
            words = {**dict.fromkeys(plan.removed, "removed"), **dict.fromkeys(plan.demoted, "demoted")}
            words |= dict.fromkeys(plan.added, "added")
            specs = [prepared.shadows[model].spec for model in (*plan.demoted, *plan.added)]
            self._show(specs, words, now_us)

    def _show(self, specs: Sequence[ShadowSpec], words: Mapping[str, str], now_us: int) -> None:
        """From now on these shadows speak too, and voters and shadows that are gone do not."""
        parts = self._standing.parts
        voters = {m: model for m, model in self.cast.voters.items() if parts[m].role is Role.VOTER}
        shadows = {spec.model: spec for spec in self.cast.shadows if spec.model in parts}
        shadows |= {spec.model: spec for spec in specs}
        references = {m: r for m, r in self.cast.references.items() if m in voters or m in shadows}
        for spec in specs:
            reference = parts[spec.model].reference
            if reference is not None:
                references[spec.model] = reference
        reasons = {model: f"{part.role.value}: {part.reason}" for model, part in parts.items()}
        self.cast = Cast(voters, list(shadows.values()), reasons, references)
        changed = {}
        for model, word in words.items():
            digest = shadows[model].digest if model in shadows else ""
            changed[model] = {"change": word, "artefact": digest, "reason": reasons.get(model, "")}
            log.warning("recast: %s %s%s", model, word, f", artefact {digest[:16]}" if digest else "")
        running = self._describe(
            {name: model.digest for name, model in voters.items()},
            {name: spec.digest for name, spec in shadows.items()},
        )
        self._oversight.recast(running, references, changed, now_us)

    @staticmethod
    def _log(prepared: Prepared) -> None:
        plan = prepared.plan
        named = {
            "demoted to shadow": plan.demoted,
            "new artefact of shadow": plan.replaced,
            "new shadow": plan.added,
            "shadow removed": plan.removed,
        }
        taken = "; ".join(f"{what}: {', '.join(models)}" for what, models in named.items() if models)
        took_ms = 1000.0 * (time.monotonic() - prepared.began)
        log.info("reload: %s (%.1f ms)", taken or "nothing to take", took_ms)
        for phrase in plan.refused:
            log.error("reload: the old artefact goes on, the new one cannot be loaded: %s", phrase)
        if plan.not_taken:
            log.warning("reload: restart needed, not taken while the engine runs: %s", "; ".join(plan.not_taken))
