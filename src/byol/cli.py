"""The command line: verb -> function. The only file that imports tyro; no logic of its own.

Nothing heavy is imported until a verb is known, so that `byol --help` answers at once.
"""

import difflib
import io
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields, replace
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from byol.run.errors import Interrupted, UserError

if TYPE_CHECKING:
    from byol.recipe import Recipe

Flags = TypeVar("Flags")
Value = TypeVar("Value")


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; return 0 done, 2 something the person can mend, 128 + signal when stopped."""
    words = list(sys.argv[1:] if words is None else words)
    try:
        if not words or words[0] in ("-h", "--help"):
            print(_help())
        elif words[0] == "--version":
            from importlib.metadata import version

            print(version("byol"))
        else:
            _choose(words[0], VERBS, "command")(words[1:])
    except UserError as error:
        print(f"byol: {error}", file=sys.stderr)
        return 2
    except Interrupted as stopped:
        print(f"byol: {stopped}", file=sys.stderr)
        return 128 + stopped.signal
    except KeyboardInterrupt:
        print("byol: broken off; what was last saved is still there.", file=sys.stderr)
        return 130
    except OSError as error:  # no permission, a full disk: what the system says, without our call stack
        print(f"byol: {error.filename or 'the system'}: {error.strerror or error}.", file=sys.stderr)
        return 2
    return 0


def pretrain(words: list[str]) -> None:
    """[RECIPE] --data PATH --out RUN: learn an encoder from images without labels."""
    from byol.pretrain import pretrain
    from byol.recipe import Recipe, read_recipe
    from byol.recipes import named
    from byol.run.folder import RunFolder

    @dataclass(frozen=True, kw_only=True)
    class Pretrain(Recipe):
        """Learn an encoder from images without labels.

        byol pretrain [RECIPE | FILE.json] --data PATH --out RUN    start a run
        byol pretrain --resume RUN                                  continue one

        The flags below show the values of the recipe; each changes one of them.

        Args:
            out: the run folder to write.
            overwrite: replace a run that the folder already holds.
            resume: a run folder to continue, exactly as if it had never stopped.
            workers: processes that decode files; one per core by default.
        """

        out: Path | None = None
        overwrite: bool = False
        resume: Path | None = None
        workers: int | None = None

    name, words = _take_name(words)
    resumed = _value_of("--resume", words)
    if resumed == "":
        raise UserError("say which run to continue: --resume RUN.")
    if name is not None:
        recipe = _recipe(name)
    elif resumed is not None:
        recipe = read_recipe(RunFolder(Path(resumed)).recipe)
    else:
        recipe = named("photos")
    given = _parse(Pretrain, words, Pretrain(**_values(recipe)), f"byol pretrain {name or ''}".strip())
    recipe = Recipe(**{field.name: getattr(given, field.name) for field in fields(Recipe)})
    out = given.resume or given.out
    if out is None:
        raise UserError("say where to write the run: --out RUN (or --resume RUN to continue one).")
    if given.resume is not None and given.out not in (None, given.resume):
        raise UserError("--resume RUN continues in RUN itself; leave --out away.")
    if not recipe.data:
        raise UserError("say where the images are: --data PATH (a folder, a list, an archive, or 'builtin').")
    recipe = replace(recipe, data=_absolute(recipe.data))
    pretrain(recipe, out, resume=given.resume is not None, overwrite=given.overwrite, workers=given.workers)


def evaluate(words: list[str]) -> None:
    """knn RUN --data PATH: measure an encoder on labelled images."""
    protocols: dict[str, Callable[[list[str]], None]] = {"knn": _knn}
    if not words or words[0] in ("-h", "--help"):
        print("usage: byol eval knn RUN --data PATH [--json]")
        return
    _choose(words[0], protocols, "protocol")(words[1:])


def _knn(words: list[str]) -> None:
    from byol.evaluate.protocol import knn

    @dataclass(frozen=True, kw_only=True)
    class Knn:
        """Weighted nearest neighbours on the representations: byol eval knn RUN --data PATH.

        Args:
            data: labelled images, with train and test (or val) in folders of their own if there are both.
            k: neighbours that vote.
            temperature: of the votes' weights, exp(cosine / temperature).
            json: print one JSON object instead of a sentence.
        """

        data: str
        k: int = 20
        temperature: float = 0.07
        json: bool = False

    run, words = _take_name(words)
    if run is None and not {"-h", "--help"} & set(words):
        raise UserError("say which encoder: byol eval knn RUN --data PATH.")
    given = _parse(Knn, words, None, "byol eval knn RUN")
    result = knn(str(run), given.data, k=given.k, temperature=given.temperature)
    if given.json:
        print(json.dumps(result.to_json()))
    else:
        print(result.sentence())


def recipes(words: list[str]) -> None:
    """[NAME [OTHER]]: list the recipes, print one as JSON, or show how two differ."""
    from rich.console import Console
    from rich.table import Table

    from byol.recipe import diff
    from byol.recipes import RECIPES, named

    if {"-h", "--help"} & set(words):
        print(f"usage: byol recipes {recipes.__doc__}")
        return
    table = Table(box=None, pad_edge=False)
    if not words:
        table.add_column("recipe", no_wrap=True)
        table.add_column("what it is")
        for name, make in RECIPES.items():
            table.add_row(name, (make.__doc__ or "").split("\n")[0])
    elif len(words) == 1:
        print(json.dumps(named(words[0]).to_json(), indent=2))
        return
    elif len(words) == 2:
        for title in ("field", *words):
            table.add_column(title)
        for field, left, right in diff(named(words[0]), named(words[1])):
            table.add_row(field, *("-" if value is None else str(value) for value in (left, right)))
    else:
        raise UserError(f"byol recipes takes at most two names, not {len(words)}.")
    Console().print(table)


def ablate(words: list[str]) -> None:
    """[TABLE] --out DIR: run a table of recipes under one budget, or list the tables."""
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.table import Table

    from byol.ablation import TABLES
    from byol.laboratory import ablate

    @dataclass(frozen=True, kw_only=True)
    class Ablate:
        """Run a table of recipes with the same seeds and budget: byol ablate TABLE --out DIR.

        Stopped with Ctrl-C, it goes on with the same command.

        Args:
            out: folder that gets TABLE.md, TABLE.json, TABLE.png and the runs.
            recipe: the recipe that the table changes, or a FILE.json.
            data: labelled images; the recipe's own by default.
            seeds: runs of each cell.
            budget: epochs of each run.
            jobs: runs at a time, on one core each; one per core by default.
        """

        out: Path | None = None
        recipe: str = "builtin"
        data: str | None = None
        seeds: int = 3
        budget: int = 4
        jobs: int | None = None

    name, words = _take_name(words)
    given = _parse(Ablate, words, None, "byol ablate TABLE")
    if name is None:
        listing = Table("table", "what it compares", box=None, pad_edge=False)
        for key, make in TABLES.items():
            listing.add_row(key, (make.__doc__ or "").split("\n")[0])
        Console().print(listing)
        return
    _choose(name, TABLES, "table")
    if given.out is None:
        raise UserError("say where to write the table and its runs: --out DIR.")
    recipe = _recipe(given.recipe)
    if given.data is not None:
        recipe = replace(recipe, data=_absolute(given.data))
    if not recipe.data:
        raise UserError("say where the images are: --data PATH (or 'builtin').")
    path = ablate(TABLES[name](), recipe, given.out, seeds=given.seeds, budget=given.budget, jobs=given.jobs)
    Console().print(Markdown(path.read_text()))


def import_(words: list[str]) -> None:
    """FILE.pkl --out RUN: turn an officially published checkpoint into an encoder."""
    from byol.official import import_official

    @dataclass(frozen=True, kw_only=True)
    class Import:
        """Turn an officially published checkpoint into an encoder: byol import FILE.pkl --out RUN.

        Nothing in the file is executed: it is read by an unpickler that admits arrays and plain containers.

        Args:
            out: the run folder to write.
            overwrite: replace an encoder that the folder already holds.
        """

        out: Path | None = None
        overwrite: bool = False

    file, words = _take_name(words)
    given = _parse(Import, words, None, "byol import FILE.pkl")
    if file is None:
        raise UserError("say which checkpoint: byol import FILE.pkl --out RUN.")
    if given.out is None:
        raise UserError("say where to write the encoder: --out RUN.")
    print(import_official(file, given.out, overwrite=given.overwrite))


VERBS: dict[str, Callable[[list[str]], None]] = {
    "pretrain": pretrain,
    "eval": evaluate,
    "recipes": recipes,
    "ablate": ablate,
    "import": import_,
}


def _help() -> str:
    lines = [f"  byol {name} {verb.__doc__}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "byol: from a folder of unlabelled images to an encoder.",
            "",
            *lines,
            "",
            "byol VERB --help says more.",
        ]
    )


def _choose(name: str, among: dict[str, Value], what: str) -> Value:
    if name not in among:
        near = difflib.get_close_matches(name, among, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(among)}."
        raise UserError(f"there is no {what} '{name}'; {hint}")
    return among[name]


def _parse(kind: type[Flags], words: list[str], default: Flags | None, program: str) -> Flags:
    """Return the flags as `kind`; a flag that does not exist is answered with the nearest that does."""
    import tyro

    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            parsed: tuple[Flags, list[str]] = tyro.cli(
                kind,
                args=words,
                prog=program,
                default=tyro.MISSING_NONPROP if default is None else default,
                config=(tyro.conf.AvoidSubcommands,),
                return_unknown_args=True,
            )
    except SystemExit as stopped:
        if stopped.code:
            raise UserError(_first_sentence(said.getvalue())) from None
        print(said.getvalue(), end="")
        raise
    values, unknown = parsed
    if unknown:
        flags = [f"--{path.replace('_', '-')}" for path in _paths(values)]
        near = difflib.get_close_matches(unknown[0], flags, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"{program} --help lists the flags."
        raise UserError(f"there is no flag {unknown[0]}; {hint}")
    return values


def _first_sentence(box: str) -> str:
    """Return what stands in the first part of one of tyro's boxes, on one line."""
    lines = [line.strip("│╰╯ ") for line in box.strip().splitlines()[1:]]
    after_title = dropwhile(lambda line: not line.strip("-─"), lines)
    first = takewhile(lambda line: line.strip("-─"), after_title)
    return " ".join(first).removeprefix("Error parsing ")


def _paths(value: Any, prefix: str = "") -> list[str]:
    return [
        path
        for field in fields(value)
        for inner in [getattr(value, field.name)]
        for path in (
            _paths(inner, f"{prefix}{field.name}.")
            if hasattr(inner, "__dataclass_fields__")
            else [f"{prefix}{field.name}"]
        )
    ]


def _values(recipe: "Recipe") -> dict[str, Any]:
    return {field.name: getattr(recipe, field.name) for field in fields(recipe)}


def _recipe(name: str) -> "Recipe":
    """Return a named recipe, or that of a JSON file."""
    from byol.recipe import read_recipe
    from byol.recipes import named

    return read_recipe(Path(name)) if name.endswith(".json") else named(name)


def _absolute(data: str) -> str:
    """Return data so named that the run can be resumed and repeated from anywhere."""
    return data if data == "builtin" else str(Path(data).expanduser().resolve())


def _take_name(words: list[str]) -> tuple[str | None, list[str]]:
    """Split off a first word that is not a flag."""
    if words and not words[0].startswith("-"):
        return words[0], words[1:]
    return None, words


def _value_of(flag: str, words: list[str]) -> str | None:
    """Return what follows a flag, before the flags are parsed: the recipe that they change depends on it."""
    for place, word in enumerate(words):
        if word == flag:
            return words[place + 1] if place + 1 < len(words) else ""
        if word.startswith(f"{flag}="):
            return word.split("=", 1)[1]
    return None
