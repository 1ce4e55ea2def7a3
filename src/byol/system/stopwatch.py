"""Time spent, over all resumptions, and the rate of images without what is not training."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Runs from when it is made.

    Args:
        carried: seconds spent before, in the runs that this one resumes.
    """

    def __init__(self, carried: float = 0.0) -> None:
        self._carried, self._start, self._aside = carried, time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        """All time spent, carried and new."""
        return self._carried + time.perf_counter() - self._start

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave the time spent inside out of the rate."""
        started = time.perf_counter()
        yield
        self._aside += time.perf_counter() - started

    def rate(self, count: int) -> float:
        """Return things per second, for things done since the start."""
        return count / (time.perf_counter() - self._start - self._aside)
