"""What a person did that cannot work, told in one sentence."""


class UserError(ValueError):
    """One clear sentence: the value, the limit, the remedy. The command line exits with code 2."""


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """The run was asked to stop and has saved itself; `signal` is the number it was asked with."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal
