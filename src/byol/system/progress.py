"""A live line on a terminal, plain lines elsewhere; on standard error, so that results can be piped."""

import sys
import time
from contextlib import suppress
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from byol.system.terminal import fitting, tell

PLAIN_SECONDS = 10.0


class Progress:
    """Shows one line that is renewed on a terminal, and every ten seconds otherwise.

    Names may hold anything (`byol.system.terminal`), and work goes on when nobody is left to read.

    Args:
        silent: show nothing at all, as on every rank but 0.
    """

    def __init__(self, silent: bool = False) -> None:
        self._silent, self._shown = silent, -PLAIN_SECONDS
        self._live: Live | None = None
        if not silent and sys.stderr is not None and not sys.stderr.closed:
            console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
            # One that cannot move its cursor, or says that it has no column, is written to line by line.
            if console.is_interactive and console.width > 0:
                self._live = Live(console=console, auto_refresh=False)

    def show(self, line: str, *, last: bool = False) -> None:
        """Renew the line; `last` prints it in any case."""
        if self._live is not None:
            with suppress(OSError):
                self._live.update(Text(fitting(line, sys.stderr)), refresh=True)
        elif last or time.monotonic() - self._shown >= PLAIN_SECONDS:
            self._shown = time.monotonic()
            self.say(line)

    def say(self, sentence: str) -> None:
        """Print a sentence that stays."""
        if self._live is not None:
            with suppress(OSError):
                self._live.console.print(Text(fitting(sentence, sys.stderr)))
        elif not self._silent:
            tell(sys.stderr, sentence)

    def __enter__(self) -> "Progress":
        if self._live is not None:
            with suppress(OSError):
                self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            with suppress(OSError):
                self._live.stop()


def duration(seconds: float) -> str:
    """Return 1:02:03 or 2:03 for a number of seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
