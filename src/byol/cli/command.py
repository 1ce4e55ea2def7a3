"""A command: a verb, the words that follow it, and the function that they call."""

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import byol
from byol.cli.signature import REQUIRED, Parameter, arguments, parameters, spread_out
from byol.cli.verbs import Verb, choose, protocols
from byol.errors import UserError

METAVARS = {"against": "RUN ...", "format": "NAME", "from_": "RUN", "protocol": "NAME", "recipe": "RECIPE"}
JSON = Parameter("json", bool, False, "print one JSON object instead of a table.")


class Command:
    """A verb as it was written: with its leading words, and the flags that belong to them.

    Args:
        name: as it is written: "pack", "eval knn".
        verb: what the command line knows of it.
        words: what follows the name.
    """

    def __init__(self, name: str, verb: Verb, words: list[str]) -> None:
        self.name, self.verb = name, verb
        count = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
        self.given = dict(zip(verb.words, words[:count], strict=False))
        self.flags = words[count:]
        if count > len(verb.words):
            raise UserError(f"'{words[len(verb.words)]}' is one word too many: {self.usage}.")

    @property
    def usage(self) -> str:
        """The whole command in short."""
        return f"byol {self.name} {self.verb.usage}"

    @cached_property
    def function(self) -> Callable[..., Any]:
        """The public function; its module is imported here."""
        function: Callable[..., Any] = getattr(byol, self.verb.function)
        return function

    @cached_property
    def parameters(self) -> list[Parameter]:
        """The parameters that are flags. A protocol is chosen by its name, a recipe by a word."""
        found = [one for one in parameters(self.function) if one.name not in self.verb.words]
        if self._chooses_protocol:
            found.append(Parameter("protocol", str, "knn", arguments(self.function).get("protocol", "")))
        return [*found, JSON]

    @cached_property
    def words(self) -> list[Parameter]:
        """The parameters that are words."""
        return [one for one in parameters(self.function) if one.name in self.verb.words]

    @cached_property
    def start(self) -> Mapping[str, Any]:
        """Name and value of the parameter whose fields are flags; a tuple's items are named by themselves."""
        match self.verb.start:
            case "recipe":
                from byol.training.request import suggested

                default = next(one.default for one in self.words if one.name == "recipe")
                return {
                    "recipe": suggested(self.given.get("recipe", default), _value_of("--from", self.flags))
                }
            case "protocol":
                name = self.verb.protocol or _value_of("--protocol", self.flags) or "knn"
                return {"protocol": choose(name, protocols(), "protocol")()}
            case "protocols":
                from inspect import signature

                return {"protocols": signature(self.function).parameters["protocols"].default}
        return {}

    @cached_property
    def fields(self) -> list[Parameter]:
        """The fields of recipe or protocol that are flags; a parameter of the same name hides one."""
        taken = {one.name for one in self.parameters}
        found = []
        for value in self.start.values():
            if isinstance(value, tuple):
                found += [field for one in value for field in spread_out(one, f"{one.name}.")]
            else:
                found += [field for field in spread_out(value) if field.name not in taken]
        return found

    def is_planned(self, given: Mapping[str, Any]) -> bool:
        """Return whether no recipe is named, so that one has to be planned for the images."""
        return self.verb.function == "pretrain" and not given.get("recipe") and given.get("from_") is None

    def begin_with(self, recipe: Any) -> None:
        """Take a recipe that was planned; the flags are its fields then."""
        self.start = {"recipe": recipe}
        vars(self).pop("fields", None)

    def has_flag(self, flag: str) -> bool:
        """Return whether a flag was given a value."""
        return _value_of(flag, self.flags) is not None

    def metavar(self, one: Parameter) -> str:
        """Return what stands for the value of a word or flag: that of the usage, or else its type."""
        if one.name in self.verb.words:
            words = re.findall(r"[A-Z_]+(?:\.\w+)?", self.verb.usage.split("--")[0])
            return str(words[self.verb.words.index(one.name)])
        there = re.search(rf"{one.flag} ([A-Z]+(?: \.\.\.)?)", self.verb.usage)
        if there is not None and not one.is_several:
            return there.group(1)
        return METAVARS.get(one.name, one.metavar)

    @property
    def _chooses_protocol(self) -> bool:
        return self.verb.start == "protocol" and self.verb.protocol is None

    def refuse_missing(self, given: Mapping[str, Any]) -> None:
        """Raise a UserError where something has to be given and is not."""
        for one in [*self.words, *self.parameters]:
            if one.default is REQUIRED and given.get(one.name) is None and one.name in self.verb.ask:
                raise UserError(f"say {self.verb.ask[one.name]}: {self.usage}.")

    def refuse_missing_words(self) -> None:
        """Raise a UserError where a word has to be given and is not, whatever the flags are."""
        flags = {one.name: () for one in self.parameters}
        self.refuse_missing({**flags, **self.given})


def _value_of(flag: str, words: list[str]) -> str | None:
    """Return what follows a flag, before the flags are parsed: which flags there are depends on it."""
    for position, word in enumerate(words):
        if word == flag:
            return words[position + 1] if position + 1 < len(words) else None
        if word.startswith(f"{flag}="):
            return word.split("=", 1)[1]
    return None
