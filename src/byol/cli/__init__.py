"""The command line: the public functions spelled in a shell.

`verbs` is the table: verb -> function. A `command` is a verb with its words; its flags come from the
function's `signature` and are read in `parsing`. `pages` are the help, `printing` shows an answer, and
`completion` writes scripts for shells. Nothing heavy is imported until a verb is known.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from byol.errors import Interrupted, UserError
from byol.system.ending import Ending, Terminated, fill_standard_streams, leave
from byol.system.launched import speaker
from byol.system.terminal import tell, write_lines

if TYPE_CHECKING:
    from byol.cli.command import Command


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code.

    0 done, 2 a wrong use, 5 a run that diverged, 128 + signal when stopped; `compare` has 3 and 4 too.

    Args:
        words: of the command; None for those of this process, which then is ours: it answers signals, and
            one that a signal has ended does not return from here.
    """
    if words is not None:
        return _ended(words, nullcontext)
    fill_standard_streams()
    code = _ended(sys.argv[1:], Ending(_break_off).holding)
    if code > 128:
        leave(code)
    return code


def _ended(words: Sequence[str], working: Callable[[], AbstractContextManager[None]]) -> int:
    """Run one command to its end, its function in a context, and say in a sentence what kept it from it."""
    try:
        return _run(list(words), working)
    except (UserError, Interrupted) as ended:
        _tell(f"{ended}")
        return ended.exit_code
    except Terminated:
        return 143
    except KeyboardInterrupt:
        _break_off()
        return 130
    except OSError as error:  # no permission, a full disk: what the system says, without our call stack
        _tell(f"{error.filename or 'the system'}: {error.strerror or error}.")
        return 2


@contextmanager
def _written() -> Iterator[None]:
    """Context in which the answer is written. A reader who has had enough, as `head` has, is no error."""
    try:
        yield
        if sys.stdout is not None and not sys.stdout.closed:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is not tried again
        if not isinstance(error, BrokenPipeError):
            raise UserError(f"the answer cannot be written: {error.strerror or error}.") from error


def _break_off() -> None:
    _tell("broken off; what was last saved is still there.")


def _run(words: list[str], working: Callable[[], AbstractContextManager[None]]) -> int:
    asked = _understood(words)
    if isinstance(asked, str):
        with _written():
            write_lines(sys.stdout, asked)
        return 0
    from byol.cli.parsing import arguments_of
    from byol.cli.printing import show

    given, as_json = arguments_of(asked)
    code = 0
    with working():
        answer = asked.function(**given)
        with _written():
            code = show(answer, as_json=as_json)
    return code


def _understood(words: list[str]) -> "str | Command":
    """Return what words ask for: a page, or a command whose function is to be called."""
    from byol.cli.verbs import find

    if not words or words[0] in ("-h", "--help", "help"):
        from byol.cli.pages import overview

        return overview()
    if words[0] == "--version":
        from importlib.metadata import version

        return version("byol")
    if words[0] == "completion":
        from byol.cli.completion import script

        return script(words[1:])
    name, verb, rest = find(_of_a_run(words))
    if name == "eval":
        from byol.cli.pages import protocols

        if rest and not {"-h", "--help", "--help-all"} & set(rest):
            raise UserError(f"say which protocol: byol eval {verb.usage}.")
        return protocols()
    from byol.cli.command import Command

    asked = {"-h", "--help", "--help-all"} & set(rest)
    command = Command(name, verb, [word for word in rest if word not in asked])
    if "--help-all" in asked:
        from byol.cli.parsing import full_help

        return full_help(command).rstrip("\n")
    if asked or (verb.lists in verb.words and not rest):
        from byol.cli.pages import page

        return page(command)
    return command


def _of_a_run(words: list[str]) -> list[str]:
    """Return `pretrain --resume RUN` as what it stands for, `resume RUN`; `--extend RUN` likewise."""
    given = [word.split("=")[0] for word in words]
    verbs = [verb for verb in ("resume", "extend") if f"--{verb}" in given]
    if words[0] != "pretrain" or not verbs:
        return words
    verb, *others = verbs
    if others:
        raise UserError("--resume continues a run and --extend begins a longer one; give one of the two.")
    position = given.index(f"--{verb}")
    flag, after = words[position], words[position + 1 :]
    run, rest = (flag.split("=", 1)[1], after) if "=" in flag else (after[0] if after else "", after[1:])
    if not run or run.startswith("--"):
        what = {"resume": "continue: --resume RUN", "extend": "extend: --extend RUN"}[verb]
        raise UserError(f"say which run to {what}.")
    if verb == "resume" and "--out" in given:
        raise UserError("--resume RUN continues in RUN itself; leave --out away.")
    before = words[1:position]
    if before and not before[0].startswith("-"):  # the recipe, which has to be the run's own
        before = ["--recipe", *before]
    return [verb, run, *before, *rest]


def _tell(sentence: str) -> None:
    """Print a sentence on standard error; of the processes of torchrun, the first of each machine does."""
    if speaker().local_rank == 0:
        tell(sys.stderr, f"byol: {sentence}")
