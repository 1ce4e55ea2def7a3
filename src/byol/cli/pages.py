"""Help: one screen a command. What it does, a command to paste, and the flags that people use."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from byol.cli.command import Command
from byol.cli.signature import REQUIRED, Parameter, summary
from byol.cli.verbs import EVALUATIONS, NAMES, VERBS

WIDTH, HEIGHT = 80, 24  # of the smallest terminal
NO_BREAK = "\0"  # a space at which no line ends
_FLAGS = 27  # columns of a flag and its value; what it means stands behind


def overview() -> str:
    """Return what `byol --help` says."""
    rows = [(f"byol {name}", verb.does) for name, verb in VERBS.items()]
    rows.append(("byol completion", "print a script that completes names and flags in a shell"))
    return "\n".join(
        [
            "byol: from a folder of unlabelled images to an encoder.",
            "",
            *(f"  {name:<17}{does}" for name, does in rows),
            "",
            "  byol pretrain photos --data ~/photos --out runs/photos",
            "  byol eval knn runs/photos --data labelled",
            "",
            "byol VERB --help says more.",
        ]
    )


def protocols() -> str:
    """Return what `byol eval --help` says."""
    return "\n".join(
        [
            *_head("eval", VERBS["eval"].usage, VERBS["eval"].does, VERBS["eval"].examples),
            *(f"  {name:<19}{verb.does}" for name, verb in EVALUATIONS.items()),
            "",
            "RUN: a run, an encoder.safetensors, timm:NAME or torchvision:NAME, either with",
            "@CHECKPOINT. byol eval PROTOCOL --help lists the flags of a protocol.",
        ]
    )


def page(command: Command) -> str:
    """Return what `byol VERB --help` says, on one screen."""
    verb, start = command.verb, command.start.get("protocol")
    does = summary(command.function if verb.protocol is None or start is None else type(start))
    shown, hidden = _chosen(command)
    rows = [(command.metavar(one), one.help, one.default) for one in command.words]
    rows += [(f"{one.flag} {command.metavar(one)}".rstrip(), one.help, one.default) for one in shown]
    names = NAMES[verb.lists]() if verb.lists is not None else {}
    notes = [verb.note] if verb.note else []
    notes += [f"{hidden} more flags: byol {command.name} --help-all."] if hidden else []
    head = _head(command.name, verb.usage, does, verb.examples)
    tail = (
        ["", *(f"  {name:<{_FLAGS}}{_short(summary(make))}" for name, make in names.items())] if names else []
    )
    tail += ["", *notes] if notes else []
    return "\n".join([*head, *_table(rows, HEIGHT - len(head) - len(tail)), *tail])


def one_line(text: str, width: int) -> str:
    """Return text on one line: all of it, the first clauses that fit, or the words that do."""
    text = _open(text)
    if len(text) <= width:
        return text
    for marks in (r"[.;](?=\s)|\s\(", r"[,:](?=\s)"):
        for end in reversed(list(re.finditer(marks, text[: width + 1]))):
            clause = text[: end.start()]
            opened, closed = (
                sum(map(clause.count, brackets)) for brackets in ("([", ")]")
            )  # [0, 1) is whole
            if len(clause) > width // 4 and opened == closed:
                return clause
    return textwrap.shorten(text, width, placeholder=" ...")


def _head(name: str, usage: str, does: str, examples: Sequence[str]) -> list[str]:
    return [
        f"usage: byol {name} {usage}",
        "",
        *textwrap.wrap(f"{does[:1].upper()}{does[1:].rstrip('.')}.", WIDTH),
        "",
        *(f"  {example}" for example in examples),
        "",
    ]


def _chosen(command: Command) -> tuple[list[Parameter], int]:
    """Return the flags of the page, and how many it leaves to --help-all."""
    verb = command.verb
    hidden = {name.replace("-", "_") for name in verb.hidden}
    among = [*command.parameters[:-1], *command.fields, command.parameters[-1]]  # --json stands last
    wanted = {name.replace("-", "_") for name in verb.shown}
    fields = {one.name for one in command.fields}
    shown = [
        one
        for one in among
        if one.name not in hidden and (not wanted or one.name not in fields or one.name in wanted)
    ]
    return shown, len(among) - len(shown)


def _table(rows: list[tuple[str, str, Any]], height: int) -> list[str]:
    """Return a line for each word or flag; two, where there is room, for what one cannot hold."""
    column = min(_FLAGS, 2 + max(len(word) for word, *_ in rows))
    width, lines, spare = WIDTH - 2 - column, [], height - len(rows)
    for word, help, default in rows:
        value = _default(default)
        end = f" [{value}]" if value else ""
        room = min(width, WIDTH - 4 - len(word))
        kept = f" {end.strip().replace(' ', NO_BREAK)}"
        whole = [line.replace(NO_BREAK, " ") for line in textwrap.wrap(_open(help) + kept, room)] or [""]
        if len(whole) == 2 and spare > 0 and whole[1] != end.strip():
            spare -= 1
        elif len(whole) > 1:
            whole = [one_line(help, room - len(end)) + end]
        starts = [word, *[""] * (len(whole) - 1)]
        lines += [f"  {start:<{WIDTH - 2 - room}}{line}" for start, line in zip(starts, whole, strict=True)]
    return lines


def _open(text: str) -> str:
    """Return text without the full stop at its end."""
    return text if text.endswith("...") else text.removesuffix(".")


def _short(text: str) -> str:
    return one_line(text, WIDTH - 2 - _FLAGS)


def _default(value: Any) -> str:
    if value is REQUIRED or value is None or value is False:
        return ""
    if isinstance(value, Iterable) and not isinstance(value, str):
        values = [f"{one:g}" if isinstance(one, float) else str(one) for one in value]
        return " ".join(values) if len(values) <= 5 else f"{len(values)} values"
    return f"{value:g}" if isinstance(value, float) else str(value)
