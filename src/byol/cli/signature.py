"""What a public function says of itself: parameters that a shell can give, their defaults and their help."""

import inspect
import os
import re
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

REQUIRED: Any = inspect.Parameter.empty


class Parameter(NamedTuple):
    """A parameter that a shell can give.

    Args:
        name: in Python; dots lead into the fields of a recipe or protocol.
        type: of its value, such as int, str | None, tuple[str, ...] or a Literal.
        default: REQUIRED where there is none.
        help: what it means, from the `Args:` of a docstring.
        is_path: whether it names a file or folder.
    """

    name: str
    type: Any
    default: Any
    help: str
    is_path: bool = False

    @property
    def flag(self) -> str:
        """How it is written in a shell."""
        return f"--{self.name.rstrip('_').replace('_', '-')}"

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that it may have, where they are few."""
        literals = [one for one in _members(self.type) if get_origin(one) is Literal]
        return tuple(str(value) for one in literals for value in get_args(one))

    @property
    def is_switch(self) -> bool:
        """Whether it is written without a value."""
        return self.type is bool

    @property
    def is_several(self) -> bool:
        """Whether it takes any number of values."""
        return any(get_origin(one) is tuple for one in _members(self.type))

    @property
    def wanted(self) -> str:
        """What may be given, for a sentence."""
        kinds = [get_args(one)[0] if get_origin(one) is tuple else one for one in _members(self.type)]
        kind = next((one for one in kinds if one in (int, float)), str)
        one, several = {int: ("a whole number", "whole numbers"), float: ("a number", "numbers")}.get(
            kind, ("a value", "values")
        )
        return f"one of {', '.join(self.choices)}" if self.choices else several if self.is_several else one

    @property
    def metavar(self) -> str:
        """What stands for its value."""
        if self.is_switch:
            return ""
        plain = next(one for one in _members(self.type) if one is not type(None))
        item = get_args(plain)[0] if get_origin(plain) is tuple else plain
        word = "PATH" if self.is_path else getattr(item, "__name__", "VALUE").upper()
        return f"{word} ..." if self.is_several else "|".join(self.choices) or word


def parameters(function: Callable[..., Any]) -> list[Parameter]:
    """Return the parameters of a function that a shell can give, in order."""
    hints, helps = get_type_hints(function), arguments(function)
    return [
        Parameter(one.name, kind, one.default, helps.get(one.name, ""), _is_path(hints[one.name]))
        for one in inspect.signature(function).parameters.values()
        if (kind := shell_type(hints[one.name])) is not None
    ]


def spread_out(spec: Any, prefix: str = "") -> Iterator[Parameter]:
    """Yield the fields of frozen data as parameters whose defaults are its values, fields of fields too."""
    hints, helps = get_type_hints(type(spec)), arguments(type(spec))
    for one in fields(spec):
        value, name = getattr(spec, one.name), f"{prefix}{one.name}"
        if is_dataclass(value):
            yield from spread_out(value, f"{name}.")
        else:
            yield Parameter(name, hints[one.name], value, helps.get(one.name, ""), _is_path(hints[one.name]))


def shell_type(annotation: Any) -> Any:
    """Return what a shell can give for an annotation: words, numbers, a switch; None if nothing.

    Where a path may stand, text may; a module, a tensor or an open encoder cannot be given.
    """
    if get_origin(annotation) in (Sequence, tuple):
        item = shell_type(get_args(annotation)[0])
        return None if item is None else tuple[item, ...]  # type: ignore[valid-type]
    members = _members(annotation)
    possible = [one for one in members if one in (bool, int, float, str) or get_origin(one) is Literal]
    possible += [str] * any(_is_path(one) for one in members)
    if not possible:
        return None
    possible += [type(None)] * (type(None) in members)
    return Union[tuple(dict.fromkeys(possible))]  # noqa: UP007 - the members are known here only


def summary(thing: Any) -> str:
    """Return the first sentence of a docstring, on one line."""
    paragraph = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
    return re.split(r"(?<=[.?!])\s(?=[A-Z])", paragraph.replace("`", ""))[0]


def arguments(thing: Any) -> dict[str, str]:
    """Return what the `Args:` of a docstring says of each name, on one line each."""
    text = inspect.getdoc(thing) or ""
    block = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)*)", text, re.MULTILINE)
    if block is None:
        return {}
    entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", block.group(1), re.MULTILINE)
    return {name: _in_shell(" ".join(words.split())) for name, words in entries}


def _in_shell(help: str) -> str:
    """Return help as it reads in a shell: without what is "in Python", and with "by default" for None."""
    help = re.sub(r"[;,] in Python\b.*?(?=;|\.\s|\.?$)", "", help)
    return help.replace("`", "").replace("None for", "by default")


def _members(annotation: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the type itself."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _is_path(annotation: Any) -> bool:
    return any(
        _is_path(get_args(one)[0])
        if get_origin(one) in (Sequence, tuple)
        else isinstance(get_origin(one) or one, type) and issubclass(get_origin(one) or one, os.PathLike)
        for one in _members(annotation)
    )
