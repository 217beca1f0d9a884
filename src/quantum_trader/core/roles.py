"""Who may vote: fail closed.

- A model votes only if the ledger holds a grant for the digest of the very artefact that is loaded,
  *and* its ``..._SHADOW_ONLY`` flag says ``false`` in so many letters.
- A missing, empty or mistyped flag is shadow. A granted artefact whose file was replaced is shadow: its digest differs.
- An artefact without a feature schema of its own (an imported checkpoint) is shadow, whatever else is true.
- The reason is always given, so that a flag that was removed by hand answers for itself in the log.
"""

from collections.abc import Collection
from dataclasses import dataclass

from quantum_trader.core.predictions import Role


@dataclass(frozen=True, slots=True)
class RoleDecision:
    """A role and the sentence that explains it."""

    role: Role
    reason: str


def asks_for_vote(flag: str | None) -> bool:
    """Whether a flag's raw text is the word ``false``; nothing else asks for a vote."""
    return flag is not None and flag.strip().lower() == "false"


def assign_role(
    model: str, digest: str, granted: Collection[str], flag: str | None, *, schema_known: bool = True
) -> RoleDecision:
    """Role of a loaded artefact.

    Args:
        model: Short name, for the reason.
        digest: Digest of the artefact that is loaded.
        granted: Digests for which the ledger holds a grant for this model.
        flag: Raw text of the model's SHADOW_ONLY flag; None where it is not set.
        schema_known: Whether the artefact says which features it was trained on.

    >>> assign_role("patchtst", "ab12", [], None).role
    <Role.SHADOW: 'shadow'>
    """
    name = f"{model.upper()}_SHADOW_ONLY"
    if flag is not None and flag.strip().lower() == "true":
        return RoleDecision(Role.SHADOW, f"{name}=true")
    if not asks_for_vote(flag):
        shown = "is not set" if flag is None else f"is {flag!r}, neither true nor false"
        return RoleDecision(Role.SHADOW, f"{name} {shown}: fail closed")
    if not schema_known:
        return RoleDecision(Role.SHADOW, "its feature schema is unknown (an imported checkpoint): it cannot vote")
    if digest not in granted:
        return RoleDecision(Role.SHADOW, f"{name}=false, but the ledger holds no grant for artefact {digest[:16]}")
    return RoleDecision(Role.VOTER, f"grant for artefact {digest[:16]} and {name}=false")
