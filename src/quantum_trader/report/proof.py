"""What a proof pack says of itself, as a document: which commands ran, when, how they ended and what they printed.

Every figure of a pack stands in the output of one of these commands; the document holds no figure of its own but the
head of the ledger, which anybody computes again from the ledger inside the pack. Version 1 of this document is fixed
for ever: packs are kept for years. What must change becomes version 2, beside it.
"""

import msgspec

FORMAT = 1


class CommandRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One command that ran.

    Attributes:
        name: Short and unique in its pack.
        title: What it shows, for people.
        argv: Program and arguments, as they were handed to the system; on another host inside one `ssh` call.
        where: ``here``, the host's name, or ``excerpts`` for a command on the pack's own excerpts.
        exit_code: Negative for the signal that ended it; None where it did not run or was given up.
        problem: Why it did not run or was given up; empty where it ended by itself.
        started: ISO 8601 in UTC with microseconds.
        ended: The same.
        seconds: Between the two, by a clock that is never set.
        stdout: File of the pack with its standard output.
        stdout_sha256: Digest of that file.
        stderr: File of the pack with its standard error.
        stderr_sha256: Digest of that file.
    """

    name: str
    title: str
    argv: tuple[str, ...]
    where: str
    exit_code: int | None
    problem: str
    started: str
    ended: str
    seconds: float
    stdout: str
    stdout_sha256: str
    stderr: str
    stderr_sha256: str


class LedgerHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the audit ledger stood: its file in the pack, how many entries, digest of the last one."""

    file: str
    count: int
    digest: str


class Predicate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The document.

    Attributes:
        format: `FORMAT`.
        title: For people.
        made: When the pack was begun, ISO 8601 in UTC.
        host: Where the commands ran: ``local`` or a host's name.
        maker: Who made it and with which version and commit, as the machine says.
        since: Excerpts begin here, milliseconds since the epoch.
        until: And end here, exclusive.
        commands: In the order in which they ran.
        ledger: The head of the ledger that lies in the pack.
    """

    format: int
    title: str
    made: str
    host: str
    maker: dict[str, str]
    since: int
    until: int
    commands: tuple[CommandRun, ...]
    ledger: LedgerHead

    def command(self, name: str) -> CommandRun | None:
        """A command by its name."""
        return next((run for run in self.commands if run.name == name), None)
