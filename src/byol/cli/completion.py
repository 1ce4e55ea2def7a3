"""Scripts that complete verbs, names, flags and files in a shell.

All words are written into the script when it is printed, so that the Tab key starts no Python at all.
"""

from collections.abc import Iterator

from byol.cli.command import Command
from byol.cli.shells import FILES, SHELLS, Words
from byol.cli.signature import Parameter
from byol.cli.verbs import EVALUATIONS, NAMES, VERBS, Verb, choose
from byol.errors import UserError


def script(words: list[str]) -> str:
    """Return the script for a shell.

    Args:
        words: the name of the shell.

    Raises:
        UserError: it is none that we write for.
    """
    if len(words) != 1 or words[0] in ("-h", "--help"):
        first, *rest = (f"{name}: {shell.how}" for name, shell in SHELLS.items())
        raise UserError(
            f"say for which shell: byol completion {' | '.join(SHELLS)}. {first}; {'; '.join(rest)}."
        )
    shell = choose(words[0], SHELLS, "shell")
    return f"# Completion of byol for {words[0]}; {shell.how}\n{shell.write(list(_commands()))}"


def _commands() -> Iterator[Words]:
    for name, verb in VERBS.items():
        if name != "eval":
            yield _words(name, verb)
    for name, verb in EVALUATIONS.items():
        yield _words(f"eval {name}", verb)


def _words(name: str, verb: Verb) -> Words:
    """Return what may follow a command, whichever recipe or protocol it is called with."""
    flags: dict[str, list[str] | None] = {}
    several: set[str] = set()
    for command in _variants(name, verb):
        for one in [*command.parameters, *command.fields]:
            if not one.name.endswith("kind"):  # says which slot it is, and has the one value that it has
                flags[one.flag] = _values(one)
                several |= {one.flag} if one.is_several else set()
    flags |= {"--help": None, "--help-all": None}
    if name == "pretrain":
        flags |= {"--resume": [FILES], "--extend": [FILES]}
    return Words(name, [_values(one) or [] for one in command.words], flags, several)


def _variants(name: str, verb: Verb) -> list[Command]:
    if verb.start == "recipe":
        return [Command(name, verb, [recipe]) for recipe in NAMES["recipe"]()]
    if verb.start == "protocol" and verb.protocol is None:
        return [Command(name, verb, ["--protocol", protocol]) for protocol in NAMES["protocol"]()]
    return [Command(name, verb, [])]


def _values(one: Parameter) -> list[str] | None:
    if one.is_switch:
        return None
    names = list(NAMES[one.name]()) if one.name in NAMES else list(one.choices)
    return [*names, *([FILES] if one.is_path else [])]
