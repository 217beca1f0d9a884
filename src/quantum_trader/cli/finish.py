"""How a verb ends with an exit code of its own."""


class Finish(Exception):
    """Ends the command with `code`; GATES.md: PROMOTE 0, REJECT 2, HOLD 3, INVALID 4, any error 1."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(code)
