"""How long work says how far it is: one callable, handed down from whoever draws the bars."""

from typing import Protocol


class Progress(Protocol):
    """Called from time to time by long work."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Say how far a stage is.

        Args:
            stage: What is being done, for people; a new stage starts a new bar.
            done: Steps of this stage that are done.
            total: Steps of this stage.
        """


def silent(stage: str, done: int, total: int) -> None:
    """Progress that nobody watches."""
