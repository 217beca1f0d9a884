"""One drill: deploy, give a vote or not, go back; one fault in one of the two; after each the host is whole."""

from collections.abc import Sequence

from tests.host.faults import MUST_COME_BACK, Fault, Striking, flip_near
from tests.host.ground import Ground
from tests.host.guest import SHADOW
from tests.host.measures import Record, Run, host_seconds, longest_gap, path_of
from tests.host.standing import FLAG, PATH, Known, Standing, Wanted, raised
from tests.host.verbs import Ended, Verb

from quantum_trader.release.influence import WEIGHTS, weights_text
from quantum_trader.release.ledger_entries import Grant

NO_FAULT = Fault("no fault", "", "now", 0.0, "")


class Failed(Exception):
    """What is not as it must be, with everything that the verbs said."""


class Drill:
    """One drill.

    Args:
        ground: The host.
        record: Is filled.
        fault: What strikes.
        resume: Whether the next run after a lost one is `deploy --resume`; else it is the same verb again.
        reload: Whether the engine is told to reload where a shadow is replaced by a shadow.
    """

    def __init__(self, ground: Ground, record: Record, fault: Fault, *, resume: bool, reload: bool) -> None:
        self._ground, self._record, self._fault = ground, record, fault
        self._resume, self._reload = resume, reload
        self._ended: list[Ended] = []

    def run(self, *, votes: bool) -> None:
        """All of it.

        Raises:
            Failed: if the host is between two states, or a rollback raised influence.
        """
        ground, way = self._ground, self._record.way
        now = ground.idle()
        if way == "full" and not now.granted:
            now = self._promoted()
        deployed = self._deploy(now)
        if votes:
            deployed = self._promoted()
        self._record.role = deployed.role[0]
        ground.tidy(self._back(way, deployed))

    def _promoted(self) -> Standing:
        before = self._ground.look()
        self._ground.promote()
        values = {FLAG: "false", WEIGHTS: weights_text(before.values.get(WEIGHTS, ""), SHADOW, 0.1)}
        old = Wanted.of(before, self._ground.known)
        return self._settled({"voter": old.changed(values, ("voter", before.role[1]), old.models)})[1]

    # Deploying

    def _deploy(self, before: Standing) -> Standing:
        self._undone = before
        fault = self._fault if self._fault.phase == "deploy" else NO_FAULT
        seed = 1000 + 2 * self._record.number
        if fault.kind in ("never ready", "bad digest"):
            # This artefact is worth nothing afterwards; another one takes its place.
            outcome, now = self._deploy_once(self._ground.make(seed, loads=fault.kind != "never ready"), before, fault)
            if fault.kind in MUST_COME_BACK and outcome != "old":
                self._fail(f"{fault.kind}: went through")
            if outcome == "new":
                return now
            seed, before, fault = seed + 1, now, NO_FAULT
        artefact = self._ground.make(seed)
        outcome, now = self._deploy_once(artefact, before, fault)
        if outcome == "old":
            outcome, now = self._deploy_once(artefact, now, NO_FAULT)
        return now

    def _deploy_once(self, artefact: Known, before: Standing, fault: Fault) -> tuple[str, Standing]:
        words = ["deploy", SHADOW, str(artefact.folder), "--shadow", "--no-git", "a drill", "--reason", "a drill"]
        # No bar comes during a drill.
        words += ["--stream-proof-s", "0"]
        # A shadow for a shadow: the one deployment that a running engine takes.
        reloads = self._reload and before.role[0] == "shadow"
        manner = "hasty" if fault.kind == "never ready" else "reload" if reloads else ""
        words = self._ground.words(*words, manner=manner)
        old = Wanted.of(before, self._ground.known)
        values = {PATH: artefact.path, FLAG: "true"}
        new = old.changed(values, ("shadow", artefact.digest), {**old.models, artefact.folder.name: artefact})
        run = Run("deploy")
        self._call(run, words, before, fault, artefact)
        now = self._concluded(run, before, {"new": new, "old": old}, fault)
        if run.outcome == "old" and now.told["backups"] != before.told["backups"]:
            self._fail("a deployment that came back left a backup")
        return run.outcome, now

    # Going back

    def _back(self, way: str, before: Standing) -> Standing:
        fault = self._fault if self._fault.phase == "rollback" else NO_FAULT
        run = self._back_once(way, before, fault)
        if run.outcome not in ("new", "refused"):
            spent, calls = run.near_s, run.calls
            run = self._back_once(way, self._ground.look(), NO_FAULT)
            run.near_s, run.calls = run.near_s + spent, run.calls + calls
            run.again = True
        if run.outcome == "refused":
            # A way back that the rules refuse leaves the one that is never refused.
            self._record.refused = True
            self._back_once("fast", self._ground.look(), NO_FAULT)
        return self._ground.look()

    def _back_once(self, way: str, before: Standing, fault: Fault) -> Run:
        old = Wanted.of(before, self._ground.known)
        new = self._restored(way, before, old)
        shadow = old.changed({FLAG: "true"}, ("shadow", before.role[1]), old.models)
        victim = next((known for known in new.models.values() if known.digest == new.role[1]), None)
        run = Run(way)
        last = self._call(run, self._ground.words("rollback", SHADOW, f"--{way}"), before, fault, victim)
        if way == "nuclear" and fault.kind == "no fault" and last.code and not self._ends(self._ground.idle(), before):
            run.outcome = "refused"
            self._settled({"old": old})
            return run
        now = self._concluded(run, before, {"new": new, "old": old, "shadow": shadow}, fault)
        if fault.place in ("copy too", "backup") and run.outcome == "new":
            self._fail(f"{fault.kind}, {fault.place}: went through")
        found = raised(before, now, way)
        if found:
            self._fail(f"a rollback raised influence: {'; '.join(found)}")
        if "is in shadow" in last.last and now.role[0] == "voter":
            self._fail("it says that the model is in shadow, and it votes")
        return run

    def _restored(self, way: str, before: Standing, old: Wanted) -> Wanted:
        if way == "fast":
            return old.changed({FLAG: "true"}, ("shadow", before.role[1]), old.models)
        if way == "nuclear":
            return Wanted.of(self._undone, self._ground.known)
        stand = before.granted - {before.role[1]}
        grants = [e.detail for e in before.entries if isinstance(e.detail, Grant) and e.detail.artefact in stand]
        baseline = next(known for known in old.models.values() if known.digest == grants[-1].artefact)
        weights = weights_text(before.values.get(WEIGHTS, ""), SHADOW, grants[-1].weight)
        values = {PATH: baseline.path, FLAG: "false", WEIGHTS: weights}
        return old.changed(values, ("voter", baseline.digest), old.models)

    # Calling, and what came of it

    def _call(self, run: Run, words: Sequence[str], before: Standing, fault: Fault, artefact: Known | None) -> Ended:
        """Call a verb under a fault, and once more where the first call was lost."""
        ground = self._ground
        folder = artefact.folder if artefact is not None else ground.folder
        usual = ground.usual["agent" if fault.anchor == "agent" else run.what]
        striking = Striking(ground.guest, fault, usual, artefact)
        striking.before()
        verb = Verb(ground.folder, *words)
        striking.beside(verb)
        last = self._noted(run, verb)
        striking.after()
        if fault.kind != "no fault":
            self._record.hit = striking.hit
        if last.code and not self._ends(ground.look(), before):
            again = words if not self._resume else ground.words("deploy", SHADOW, str(folder), "--resume")
            last = self._noted(run, Verb(ground.folder, *again))
        if (fault.kind, fault.place, fault.phase) == ("bad digest", "near", "deploy"):
            flip_near(artefact)
        return last

    def _noted(self, run: Run, verb: Verb) -> Ended:
        ended = verb.ended()
        self._ended.append(ended)
        run.calls, run.near_s = run.calls + 1, run.near_s + ended.took_s
        return ended

    @staticmethod
    def _ends(now: Standing, before: Standing) -> list[tuple[str, str]]:
        """Kind and result of every transaction that ended since; none where one is still open."""
        new = [one for name, one in now.told["newest"].items() if name not in before.told["transactions"]]
        begun = [one for one in new if one["events"]]
        if now.told["busy"] or any(one["events"][-1]["event"] != "end" for one in begun):
            return []
        return [(one["kind"], one["events"][-1]["result"]) for one in begun]

    def _concluded(self, run: Run, before: Standing, wanted: dict[str, Wanted], fault: Fault) -> Standing:
        """Wait until the host is whole, and note what it took."""
        ends = self._ends(self._ground.idle(), before)
        run.results = [f"{kind} {result}" for kind, result in ends]
        if any(result == "stuck" for _, result in ends):
            self._fail("stuck")
        run.outcome, now = self._settled(wanted)
        self._record.runs.append(run)
        if fault is self._fault:
            self._record.first = run
        kind = run.what if run.what == "deploy" else f"rollback-{run.what}"
        done = (kind, "done") in ends
        if not done and wanted["old"] == wanted["new"]:
            run.outcome = "old"
        if done != (run.outcome == "new") and wanted["old"] != wanted["new"]:
            self._fail(f"transactions say {run.results}, and the host is {run.outcome}")
        if fault.kind == "no fault" and (self._ended[-1].code or not done):
            self._fail(f"without a fault: {run.results}, {run.outcome}")
        self._time(run, before, now, kind)
        if fault.kind == "no fault":
            self._ground.usual |= {run.what: run.near_s, "agent": run.host_s or 1.0}
        return now

    def _time(self, run: Run, before: Standing, now: Standing, kind: str) -> None:
        spans = [
            span
            for name, one in now.told["newest"].items()
            if name not in before.told["transactions"] and one["kind"] == kind
            if (span := host_seconds(one["events"])) is not None
        ]
        run.path = path_of(before, now)
        if spans:
            run.host_s = spans[-1][1] - spans[-1][0]
            run.gap_s = longest_gap(self._ground.gaps(), (spans[0][0], spans[-1][1]))

    def _settled(self, wanted: dict[str, Wanted]) -> tuple[str, Standing]:
        name, now, problem = self._ground.whole(wanted)
        if not name:
            self._fail(problem)
        return name, now

    def _fail(self, problem: str) -> None:
        said = "\n".join(str(ended) for ended in self._ended)
        raise Failed(f"{problem}\n{said}")
