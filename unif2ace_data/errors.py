"""What goes wrong: with one input (a row in the ledger), or with the run (one line, and an exit code)."""

from __future__ import annotations


class InputError(Exception):
    """One input cannot be used. `code` is the ledger's reason (snake_case), the message says what and where."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str]]:
        return (InputError, (self.code, self.message))


class UserError(Exception):
    """The run cannot go on: what is wrong, where, what to do. The CLI prints it and exits (1, or 2 for wrong usage)."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[type[UserError], tuple[str, int]]:
        return (UserError, (self.message, self.exit_code))
