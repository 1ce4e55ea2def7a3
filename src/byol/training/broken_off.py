"""What becomes of a run whose images cannot be read any more: it saves itself before it says why."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from byol.data.loader import BrokenOff
from byol.errors import Interrupted, UserError
from byol.system.processes import Processes
from byol.system.stop import StopRequest
from byol.training.learner import Learner


@contextmanager
def saved_if_broken_off(
    learner: Learner,
    save: Callable[[], None],
    ending: Callable[[], str],
    stop: StopRequest,
    processes: Processes,
) -> Iterator[None]:
    """Context in which the end of the images does not lose what was learned since the last checkpoint.

    Args:
        learner: as it begins.
        save: writes a checkpoint; called by all processes.
        ending: says at which step that was, and how to go on.
        stop: whether the run was asked to stop.
        processes: that train together.

    Raises:
        UserError: why there are no more images, and how to go on.
        Interrupted: the run was asked to stop meanwhile.
    """
    first_step = learner.step
    try:
        yield
    except BrokenOff as error:
        (signal,) = processes.max_over_ranks(stop.received or 0)
        if learner.step > first_step:
            save()
        elif not signal:
            raise
        if signal:
            raise Interrupted(f"stopped {ending()}", signal) from error
        raise UserError(f"{str(error).rstrip('.')}; stopped {ending()}") from error
