"""A live line on a terminal, plain lines elsewhere; on standard error, so that results can be piped."""

import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

PLAIN_SECONDS = 10.0


class Progress:
    """Shows one line that is renewed on a terminal, and every ten seconds otherwise.

    Args:
        silent: show nothing at all, as on every rank but 0.
    """

    def __init__(self, silent: bool = False) -> None:
        self._console = Console(stderr=True, quiet=silent, highlight=False, soft_wrap=True)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._shown = -PLAIN_SECONDS

    def show(self, line: str, *, last: bool = False) -> None:
        """Renew the line; `last` prints it in any case."""
        if self._live is not None:
            self._live.update(Text(line), refresh=True)
        elif last or time.monotonic() - self._shown >= PLAIN_SECONDS:
            self._shown = time.monotonic()
            self._console.print(line)

    def say(self, sentence: str) -> None:
        """Print a sentence that stays."""
        self._console.print(sentence)

    def __enter__(self) -> "Progress":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()


def duration(seconds: float) -> str:
    """Return 1:02:03 or 2:03 for a number of seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
