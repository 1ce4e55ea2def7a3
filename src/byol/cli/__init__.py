"""The command line: the public functions spelled in a shell.

`verbs` is the table: verb -> function. A `command` is a verb with its words; its flags come from the
function's `signature` and are read in `parsing`. `pages` are the help, `printing` shows an answer, and
`completion` writes scripts for shells. Nothing heavy is imported until a verb is known.
"""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from byol.errors import Interrupted, UserError
from byol.system.launched import speaker
from byol.system.terminal import tell, write_line, write_lines

if TYPE_CHECKING:
    from byol.cli.verbs import Verb


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code.

    0 done, 2 a wrong use, 5 a run that diverged, 128 + signal when stopped; `compare` has 3 and 4 too.
    """
    try:
        code = _run(list(sys.argv[1:] if words is None else words))
        sys.stdout.flush()  # here, where a pipe that is closed can still be told from an error
        return code
    except (UserError, Interrupted) as ended:
        _tell(f"{ended}")
        return ended.exit_code
    except KeyboardInterrupt:
        _tell("broken off; what was last saved is still there.")
        return 130
    except BrokenPipeError:  # whoever read us has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # no permission, a full disk: what the system says, without our call stack
        _tell(f"{error.filename or 'the system'}: {error.strerror or error}.")
        return 2


def _run(words: list[str]) -> int:
    from byol.cli.verbs import find

    if not words or words[0] in ("-h", "--help", "help"):
        from byol.cli.pages import overview

        write_lines(sys.stdout, overview())
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        write_line(sys.stdout, version("byol"))
        return 0
    if words[0] == "completion":
        from byol.cli.completion import script

        write_lines(sys.stdout, script(words[1:]))
        return 0
    name, verb, rest = find(_resumed(words))
    if name == "eval":
        from byol.cli.pages import protocols

        if rest and not {"-h", "--help", "--help-all"} & set(rest):
            raise UserError(f"say which protocol: byol eval {verb.usage}.")
        write_lines(sys.stdout, protocols())
        return 0
    return _call(name, verb, rest)


def _call(name: str, verb: "Verb", words: list[str]) -> int:
    """Call the function of a verb, or print its help."""
    from byol.cli.command import Command

    asked = {"-h", "--help", "--help-all"} & set(words)
    command = Command(name, verb, [word for word in words if word not in asked])
    if "--help-all" in asked:
        from byol.cli.parsing import full_help

        write_lines(sys.stdout, full_help(command).rstrip("\n"))
    elif asked or (verb.lists in verb.words and not words):
        from byol.cli.pages import page

        write_lines(sys.stdout, page(command))
    else:
        from byol.cli.parsing import arguments_of
        from byol.cli.printing import show

        given, as_json = arguments_of(command)
        return show(command.function(**given), as_json=as_json)
    return 0


def _resumed(words: list[str]) -> list[str]:
    """Return `pretrain --resume RUN` as what it stands for, `resume RUN`."""
    if words[0] != "pretrain" or not any(word.split("=")[0] == "--resume" for word in words):
        return words
    position = next(i for i, word in enumerate(words) if word.split("=")[0] == "--resume")
    flag, after = words[position], words[position + 1 :]
    run, rest = (flag.split("=", 1)[1], after) if "=" in flag else (after[0] if after else "", after[1:])
    if not run or run.startswith("--"):
        raise UserError("say which run to continue: --resume RUN.")
    if any(word.split("=")[0] == "--out" for word in words):
        raise UserError("--resume RUN continues in RUN itself; leave --out away.")
    before = words[1:position]
    if before and not before[0].startswith("-"):  # the recipe, which has to be the run's own
        before = ["--recipe", *before]
    return ["resume", run, *before, *rest]


def _tell(sentence: str) -> None:
    """Print a sentence on standard error; of the processes of torchrun, the first of each machine does."""
    if speaker().local_rank == 0:
        tell(sys.stderr, f"byol: {sentence}")
