"""What every public function that measures or makes something returns."""

from typing import Any, Protocol


class Answer(Protocol):
    """A frozen result that a person can read, a program can use, and the command line can print."""

    @property
    def value(self) -> float | None:
        """The headline number, in the unit that the class names; None where there is none."""

    def table(self) -> list[list[str]]:
        """Return the result as rows of strings; the first row is the header."""

    def sentence(self) -> str:
        """Return what came out, in one sentence."""

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values, with the headline number under "value"."""
