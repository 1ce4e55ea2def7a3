"""The command line: verb -> function. The only file that imports tyro; no logic of its own.

Nothing heavy is imported until a verb is known, so that `byol --help` answers at once.
"""

import difflib
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, fields, make_dataclass, replace
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from byol.errors import Interrupted, UserError

if TYPE_CHECKING:
    from byol.recipe.spec import Recipe

Flags = TypeVar("Flags")
Value = TypeVar("Value")


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code.

    0 done, 2 something the person can mend, 128 + signal when stopped; `compare` has more.
    """
    words = list(sys.argv[1:] if words is None else words)
    try:
        if not words or words[0] in ("-h", "--help"):
            print(_help())
        elif words[0] == "--version":
            from importlib.metadata import version

            print(version("byol"))
        else:
            return _choose(words[0], VERBS, "command")(words[1:]) or 0
    except UserError as error:
        _tell(f"{error}")
        return 2
    except Interrupted as stopped:
        _tell(f"{stopped}")
        return 128 + stopped.signal
    except KeyboardInterrupt:
        _tell("broken off; what was last saved is still there.")
        return 130
    except OSError as error:  # no permission, a full disk: what the system says, without our call stack
        _tell(f"{error.filename or 'the system'}: {error.strerror or error}.")
        return 2
    return 0


def _tell(sentence: str) -> None:
    """Print a sentence on standard error; of the processes of torchrun, the first of each machine does."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"byol: {sentence}", file=sys.stderr)


def pretrain(words: list[str]) -> None:
    """[RECIPE] --data PATH --out RUN: learn an encoder from images without labels."""
    from byol.recipe.names import named
    from byol.recipe.spec import Recipe, read_recipe
    from byol.run.folder import RunFolder
    from byol.training.loop import pretrain

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
    recipe = Recipe(**_values(given))
    out = given.resume or given.out
    if out is None:
        raise UserError("say where to write the run: --out RUN (or --resume RUN to continue one).")
    if given.resume is not None and given.out not in (None, given.resume):
        raise UserError("--resume RUN continues in RUN itself; leave --out away.")
    if not recipe.data:
        raise UserError(
            "say where the images are: --data PATH (a folder, a list, an archive, a pack, or 'builtin')."
        )
    recipe = replace(recipe, data=_absolute(recipe.data))
    pretrain(recipe, out, resume=given.resume is not None, overwrite=given.overwrite, workers=given.workers)


def evaluate(words: list[str]) -> None:
    """PROTOCOL RUN --data PATH: measure an encoder, beside what it has to beat."""
    if not words or words[0] in ("-h", "--help"):
        names = "\n".join(f"  {name:<19}{ask.__doc__}" for name, ask in PROTOCOLS.items())
        print(f"usage: byol eval PROTOCOL RUN --data PATH [--against ENCODER ...] [--json]\n\n{names}")
        print("\nRUN: a run, an encoder.safetensors, timm:NAME, torchvision:NAME, either with @CHECKPOINT.")
        return
    _choose(words[0], PROTOCOLS, "protocol")(words[1:])


def _knn(words: list[str]) -> None:
    """weighted nearest neighbours, also of one labelled set alone"""
    from byol.evaluate.protocol import Knn

    _judge("knn", Knn, words)


def _linear(words: list[str]) -> None:
    """logistic regression on frozen features by L-BFGS, 45 strengths"""
    from byol.evaluate.protocol import Linear

    _judge("linear", Linear, words)


def _linear_paper(words: list[str]) -> None:
    """a classifier on the frozen encoder by SGD on random crops, as published"""
    from byol.evaluate.protocol import LinearSgd

    _judge("linear-paper", LinearSgd, words)


def _finetune(words: list[str]) -> None:
    """the whole network learns"""
    from byol.evaluate.protocol import FineTune

    _judge("finetune", FineTune, words)


def _fewlabel_linear(words: list[str]) -> None:
    """a share of the labels, logistic regression on frozen features"""
    from byol.evaluate.protocol import FewLabels, Linear

    _judge("fewlabel-linear", FewLabels, words, by=Linear(held_out=0.2))


def _fewlabel_finetune(words: list[str]) -> None:
    """a share of the labels, the whole network learns"""
    from byol.evaluate.protocol import FewLabels, Retrain

    _judge("fewlabel-finetune", FewLabels, words, by=Retrain())


def _judge(name: str, kind: type[Any], words: list[str], **slots: Any) -> None:
    """Parse the fields of a protocol and what every evaluation is asked, and print the result.

    Args:
        name: of the protocol.
        kind: its class.
        words: the command line behind the name.
        slots: fields that hold a class with fields of its own.
    """
    from byol.evaluate.judging import judge

    @dataclass(frozen=True, kw_only=True)
    class Asked:
        """What every evaluation is asked.

        Args:
            data: labelled images; train is learnt from, test (or val, without test) judged.
            test: the judged images, if they lie elsewhere.
            against: other encoders to judge by the same rule, such as timm:resnet50.
            seed: of all draws and of the random initialisation.
            json: print one JSON object instead of a table.
        """

        data: str
        test: str | None = None
        against: tuple[str, ...] = ()
        seed: int = 0
        json: bool = False

    chosen = [(slot, type(value), field(default=value)) for slot, value in slots.items()]
    flags = make_dataclass(kind.__name__, chosen, bases=(kind, Asked), frozen=True, kw_only=True)
    flags.__doc__ = f"{(kind.__doc__ or '').split(chr(10) * 2)[0]}"
    run, words = _take_name(words)
    if run is None and not {"-h", "--help"} & set(words):
        raise UserError(f"say which encoder: byol eval {name} RUN --data PATH.")
    given: Any = _parse(flags, words, None, f"byol eval {name} RUN")
    protocol = kind(**{one.name: getattr(given, one.name) for one in fields(kind)})
    result = judge(protocol, str(run), given.data, test=given.test, against=given.against, seed=given.seed)
    if given.json:
        print(json.dumps(result.to_json()))
    else:
        _print_table(result.table())
        print(result.sentence())


def _transfer(words: list[str]) -> None:
    """linear and fine-tune on several sets: --data PATH PATH ..."""
    from byol.evaluate.judging import transfer
    from byol.evaluate.protocol import FineTune, Linear

    @dataclass(frozen=True, kw_only=True)
    class Asked:
        """Judge an encoder on several labelled sets, each by its own metric.

        Args:
            data: the sets, each with a train and a test (or val) split.
            against: other encoders to judge by the same rule.
            seed: of all draws and of the random initialisation.
            json: print one JSON object instead of a table.
            linear: logistic regression on frozen features.
            finetune: the whole network learns.
        """

        data: tuple[str, ...] = ()
        against: tuple[str, ...] = ()
        seed: int = 0
        json: bool = False
        linear: Linear = field(default_factory=Linear)
        finetune: FineTune = field(default_factory=FineTune)

    run, words = _take_name(words)
    given = _parse(Asked, words, Asked(), "byol eval transfer RUN")
    if run is None:
        raise UserError("say which encoder: byol eval transfer RUN --data PATH PATH.")
    protocols = given.linear, given.finetune
    found = transfer(run, given.data, protocols=protocols, against=given.against, seed=given.seed)
    if given.json:
        print(json.dumps(found.to_json()))
    else:
        _print_table(found.table())


def _unlabelled(words: list[str]) -> None:
    """spread, effective rank, RankMe, alpha-ReQ, alignment and uniformity, without labels"""
    from byol.evaluate.judging import measure

    @dataclass(frozen=True, kw_only=True)
    class Asked:
        """Measure an encoder without labels, so that runs can be ranked.

        Args:
            data: images; labels are not looked at. Of splits, test (or else val) is measured.
            against: other encoders to measure on the same images and views.
            seed: of images, views and the random initialisation.
            json: print one JSON object instead of a table.
        """

        data: str
        against: tuple[str, ...] = ()
        seed: int = 0
        json: bool = False

    run, words = _take_name(words)
    if run is None and not {"-h", "--help"} & set(words):
        raise UserError("say which encoder: byol eval unlabelled RUN --data PATH.")
    given = _parse(Asked, words, None, "byol eval unlabelled RUN")
    found = measure(str(run), given.data, against=given.against, seed=given.seed)
    if given.json:
        print(json.dumps(found.to_json()))
    else:
        _print_table(found.table())


def compare(words: list[str]) -> int:
    """RUN_A RUN_B --data PATH: is A better? Exit code 0 yes, 3 undecided, 4 B is."""
    from typing import Literal

    from byol.evaluate.judging import compare
    from byol.evaluate.protocol import FineTune, Knn, Linear

    @dataclass(frozen=True, kw_only=True)
    class Compare:
        """Is encoder A better than encoder B? byol compare RUN_A RUN_B --data PATH

        Exit code 0: A is better; 3: undecided; 4: B is better. For continuous integration.

        Args:
            data: labelled images; train is learnt from, test (or val, without test) judged.
            test: the judged images, if they lie elsewhere.
            protocol: by which both are judged.
            seed: of all draws.
            json: print one JSON object instead of a table.
        """

        data: str
        test: str | None = None
        protocol: Literal["knn", "linear", "finetune"] = "knn"
        seed: int = 0
        json: bool = False

    a, words = _take_name(words)
    b, words = _take_name(words)
    if b is None and not {"-h", "--help"} & set(words):
        raise UserError("say which two encoders: byol compare RUN_A RUN_B --data PATH.")
    given = _parse(Compare, words, None, "byol compare RUN_A RUN_B")
    protocol = {"knn": Knn, "linear": Linear, "finetune": FineTune}[given.protocol]()
    found = compare(str(a), str(b), given.data, protocol=protocol, test=given.test, seed=given.seed)
    if given.json:
        print(json.dumps(found.to_json()))
    else:
        _print_table(found.result.table())
        print(found.sentence())
    return found.exit_code


def _print_table(lines: list[list[str]]) -> None:
    """Print lines of words, the first of them the titles."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in lines[0]:
        table.add_column(title, no_wrap=True)
    for line in lines[1:]:
        table.add_row(*line)
    widths = [max(map(len, column)) + 2 for column in zip(*lines, strict=True)]
    console = Console()
    console.width = max(console.width, sum(widths))  # a long line is better than half a one
    console.print(table)


PROTOCOLS: dict[str, Callable[[list[str]], None]] = {
    "knn": _knn,
    "linear": _linear,
    "linear-paper": _linear_paper,
    "fewlabel-linear": _fewlabel_linear,
    "fewlabel-finetune": _fewlabel_finetune,
    "finetune": _finetune,
    "transfer": _transfer,
    "unlabelled": _unlabelled,
}


def recipes(words: list[str]) -> None:
    """[NAME [OTHER]]: list the recipes, print one as JSON, or show how two differ."""
    from rich.console import Console
    from rich.table import Table

    from byol.recipe.names import RECIPES, named
    from byol.recipe.spec import diff

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

    from byol.lab.laboratory import ablate
    from byol.lab.tables import TABLES

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


def bench(words: list[str]) -> None:
    """[RECIPE] [--data PATH]: how fast is it here, and how near to the machine's limit?"""
    from byol.lab.speed import bench
    from byol.recipe.names import named
    from byol.recipe.spec import Recipe

    @dataclass(frozen=True, kw_only=True)
    class Bench(Recipe):
        """Measure the parts of a step in turn, beside the machine's limit: byol bench [RECIPE | FILE.json]

        The flags below show the values of the recipe; each changes one of them. Without --data, random
        images in memory stand in for it.

        Args:
            rounds: times that every part is timed.
            json: print one JSON object instead of a table.
        """

        rounds: int = 5
        json: bool = False

    name, words = _take_name(words)
    recipe = named("builtin") if name is None else _recipe(name)
    given = _parse(Bench, words, Bench(**_values(recipe)), f"byol bench {name or ''}".strip())
    if given.rounds < 1:
        raise UserError(f"--rounds is {given.rounds}; use 1 or more.")
    speed = bench(Recipe(**_values(given)), rounds=given.rounds)
    if given.json:
        print(json.dumps(speed.to_json()))
    else:
        _print_table(speed.table())
        print(speed.sentence())


def pack(words: list[str]) -> None:
    """PATH --out FILE: write a compact copy of a set, made smaller beforehand, as one file."""
    from byol.data.packing import pack

    @dataclass(frozen=True, kw_only=True)
    class Pack:
        """Write a compact copy of a set as one file, and give that as --data: byol pack PATH --out FILE

        Splits, labels, names and order are kept. Ctrl-C leaves nothing behind.

        Args:
            out: the file to write.
            short_side: most pixels of an image's shorter side; smaller images are not enlarged.
            quality: of JPEG, 1 to 100.
            raw: write pixels in place of JPEG: exact and faster to read, and some nine times as large.
            overwrite: replace a file that is there.
        """

        out: Path | None = None
        short_side: int = 256
        quality: int = 90
        raw: bool = False
        overwrite: bool = False

    data, words = _take_name(words)
    given = _parse(Pack, words, None, "byol pack PATH")
    if data is None:
        raise UserError("say which images: byol pack PATH --out FILE.")
    if given.out is None:
        raise UserError("say where to write the pack: --out FILE.")
    settings = {name: value for name, value in vars(given).items() if name != "out"}
    pack(data, given.out, **settings)


def import_(words: list[str]) -> None:
    """FILE.pkl --out RUN: turn an officially published checkpoint into an encoder."""
    from byol.weights.official import import_official

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


VERBS: dict[str, Callable[[list[str]], int | None]] = {
    "pretrain": pretrain,
    "eval": evaluate,
    "compare": compare,
    "recipes": recipes,
    "ablate": ablate,
    "bench": bench,
    "pack": pack,
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
    from byol.recipe.spec import Recipe

    return {field.name: getattr(recipe, field.name) for field in fields(Recipe)}


def _recipe(name: str) -> "Recipe":
    """Return a named recipe, or that of a JSON file."""
    from byol.recipe.names import named
    from byol.recipe.spec import read_recipe

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
