"""From the flags of a command to the arguments of its function. The only file that imports tyro."""

import io
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import field, fields, is_dataclass, make_dataclass, replace
from itertools import dropwhile, takewhile
from typing import Annotated, Any, get_type_hints

import tyro

from byol.cli.command import Command
from byol.cli.signature import REQUIRED, arguments, summary
from byol.cli.verbs import hint
from byol.errors import UserError
from byol.system.terminal import write_lines
from byol.training.planning import in_epochs
from byol.training.request import folder_for, recipe_for


def arguments_of(command: Command) -> tuple[dict[str, Any], bool]:
    """Return the arguments for the function of a command, and whether JSON is asked for.

    Raises:
        UserError: a flag does not exist, a value is of the wrong type, or something is missing.
    """
    command.refuse_missing_words()
    values = _parsed(command, command.flags)
    given = {one.name: getattr(values, one.name) for one in command.parameters} | command.given
    command.refuse_missing(given)
    if command.is_planned(given):
        settings = {name: given[name] for name in ("overwrite", "workers", "checkpoint_seconds")}
        folder_for(given["data"], given["out"], encoder=None, **settings)
        recipe = recipe_for(None, None, given["data"], given["fit_in"], workers=given["workers"])
        command.begin_with(in_epochs(recipe, values.epochs) if command.has_flag("--epochs") else recipe)
        values, given["fit_in"] = _parsed(command, command.flags), None
    as_json = given.pop("json")
    for name, start in command.start.items():
        given[name] = _changed(command, start, values)
    return given, as_json


def full_help(command: Command) -> str:
    """Return all flags of a command, every field of a recipe or protocol among them."""
    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            _parsed(command, ["--help"])
    except SystemExit:
        pass
    groups = said.getvalue().splitlines()
    while groups and groups[0].strip() != "options":
        groups.pop(0)  # tyro's usage line and description
    return "\n".join([f"usage: {command.usage}", "", summary(command.function), "", *groups])


def _parsed(command: Command, words: list[str]) -> Any:
    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            values, unknown = tyro.cli(
                _flags(command),
                args=words,
                prog=f"byol {command.name}",
                config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff),
                return_unknown_args=True,
            )
    except SystemExit as stopped:
        if not stopped.code:
            write_lines(sys.stdout, said.getvalue().rstrip("\n"))
            raise
        raise UserError(_refusal(command, words, said.getvalue())) from None
    for word in unknown:
        if word.startswith("-"):
            flags = [one.flag for one in [*command.parameters, *command.fields]]
            otherwise = command.verb.others or f"byol {command.name} --help-all lists the flags."
            remedy = hint(word.split("=")[0], flags, otherwise, cutoff=0.6)
            raise UserError(f"there is no flag {word}; {remedy}")
        raise UserError(f"'{word}' belongs to no flag; words come first: {command.usage}.")
    return values


def _flags(command: Command) -> type[Any]:
    """Return a class whose fields are the flags of a command, for tyro."""
    flags: list[Any] = []
    for one in command.parameters:
        required = one.default is REQUIRED
        kind = one.type | None if required else one.type
        extra = tyro.conf.arg(
            name=one.flag.removeprefix("--"),
            help=one.help,
            metavar=None if one.is_switch or one.choices else command.metavar(one),
        )
        flags.append((one.name, Annotated[kind, extra], field(default=None if required else one.default)))
    taken = {name for name, *_ in flags}
    for start in command.start.values():
        flags += [flag for flag in _fields(start) if flag[0] not in taken]
    kind = make_dataclass("Flags", flags, kw_only=True)
    kind.__doc__ = summary(command.function)
    return kind


def _fields(start: Any) -> list[Any]:
    """Return name, type and default of what becomes of each field."""
    if isinstance(start, tuple):
        return [(one.name, type(one), field(default=one)) for one in start]
    hints, helps, flags = get_type_hints(type(start), include_extras=True), arguments(type(start)), []
    for one in fields(start):
        value = getattr(start, one.name)
        kind = type(value) if is_dataclass(value) else hints[one.name]  # the variant that the recipe has
        flags.append(
            (one.name, Annotated[kind, tyro.conf.arg(help=helps.get(one.name))], field(default=value))
        )
    return flags


def _changed(command: Command, start: Any, values: Any) -> Any:
    """Return a recipe, a protocol, or several, with the fields that the flags give them."""
    if isinstance(start, tuple):
        return tuple(getattr(values, one.name) for one in start)
    names = {one.name for one in fields(start)} - {one.name for one in command.parameters}
    return replace(start, **{name: getattr(values, name) for name in names})


def _refusal(command: Command, words: list[str], box: str) -> str:
    """Return what is wrong in a sentence, from the box in which tyro says it."""
    lines = [line.strip("│╰╯ ") for line in box.strip().splitlines()[1:]]
    after_title = dropwhile(lambda line: not line.strip("-─"), lines)
    said = " ".join(takewhile(lambda line: line.strip("-─"), after_title)).removeprefix("Error parsing ")
    for one in [*command.parameters, *command.fields]:
        if re.search(rf"(?<![\w.-]){re.escape(one.flag)}(?![\w.-])", said):
            value = _value(one.flag, words)
            found = f"{one.flag} is {value}" if value else f"{one.flag} has no value"
            return f"{found}; give {one.wanted}."
    return said


def _value(flag: str, words: list[str]) -> str:
    """Return what was given to a flag."""
    value: list[str] = []
    for position, word in enumerate(words):
        if word == flag:
            value = list(takewhile(lambda one: not one.startswith("--"), words[position + 1 :]))
        elif word.startswith(f"{flag}="):
            value = [word.split("=", 1)[1]]
    return " ".join(value)
