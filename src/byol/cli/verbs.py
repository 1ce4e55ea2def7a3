"""The verbs: which public function each one calls, and which of its parameters are words rather than flags.

Nothing is imported here but what `byol --help` needs; a function is imported when its verb is called.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from byol.errors import UserError
from byol.evaluate.protocol.table import PROTOCOLS

Value = TypeVar("Value")


class Verb(NamedTuple):
    """What the command line adds to a public function.

    Args:
        function: its public name.
        does: what it does, in the few words of a list.
        usage: what follows the verb; what stands for a value here does so in the help too.
        examples: commands that can be pasted.
        words: parameters that are given as words, in this order, before all flags.
        ask: what to say of a parameter that must be given and is not: "say ...".
        start: the parameter whose own fields become flags: "recipe", "protocol" or "protocols".
        protocol: name of the protocol whose fields become flags, where the verb decides it.
        shown: fields of the recipe that `--help` shows; `--help-all` shows all of them.
        hidden: parameters that `--help` leaves to `--help-all`.
        lists: the parameter whose names `--help` lists.
        note: a line below the flags.
        others: what to do about flags that it does not have; by default, where they are listed.
    """

    function: str
    does: str
    usage: str
    examples: tuple[str, ...]
    words: tuple[str, ...] = ()
    ask: Mapping[str, str] = {}
    start: str | None = None
    protocol: str | None = None
    shown: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    lists: str | None = None
    note: str = ""
    others: str = ""


def _evaluation(protocol: str, does: str, flags: str, **more: Any) -> Verb:
    settings: dict[str, Any] = {
        "function": "judge",
        "start": "protocol",
        "protocol": protocol,
        "does": does,
        "usage": "RUN --data PATH [flags]",
        "examples": (f"byol eval {protocol} runs/photos --data labelled {flags}".rstrip(),),
        "words": ("encoder",),
        "ask": {"encoder": "which encoder", "data": "which images"},
    }
    return Verb(**(settings | more))


EVALUATIONS = {
    verb.protocol or "": verb
    for verb in (
        *(_evaluation(name, entry.does, entry.flags) for name, entry in PROTOCOLS.items()),
        _evaluation(
            "transfer",
            "linear and finetune on several sets",
            "pets --json",
            function="transfer",
            start="protocols",
            usage="RUN --data PATH PATH ... [flags]",
            hidden=("finetune.layer-decay", "finetune.weight-decay", "finetune.patience"),
        ),
        _evaluation(
            "unlabelled",
            "measures that need no labels, to rank runs",
            "--against timm:resnet18",
            function="measure",
            start=None,
        ),
    )
}

_RECIPE_FIELDS = ("epochs", "batch-size", "views.size", "precision", "seed")

VERBS = {
    "pretrain": Verb(
        function="pretrain",
        does="learn an encoder from images without labels",
        usage="[RECIPE | FILE.json] --data PATH --out RUN [flags]",
        examples=(
            "byol pretrain --data ~/photos --out runs/photos --fit-in 1h",
            "byol pretrain --resume runs/photos    # go on after a stop, like byol resume",
            "byol pretrain --from runs/photos --data more --out runs/more    # train on",
        ),
        words=("recipe",),
        ask={"out": "where to write the run"},
        start="recipe",
        shown=_RECIPE_FIELDS,
        hidden=("checkpoint-seconds",),
        note="Values in brackets are those of the recipe; without one it is planned.",
    ),
    "plan": Verb(
        function="plan",
        does="say what pretrain would do with images in a time, and why",
        usage="--data PATH [--fit-in TIME] [flags]",
        examples=("byol plan --data ~/photos --fit-in 8h",),
        ask={"data": "which images"},
    ),
    "resume": Verb(
        function="resume",
        does="continue a run that was stopped",
        usage="RUN [flags]",
        examples=(
            "byol resume runs/photos",
            "byol resume runs/photos --data /new/place    # images that were moved",
        ),
        words=("run",),
        ask={"run": "which run to continue"},
        hidden=("recipe",),
        others="a run is continued as it was begun; for more epochs: byol pretrain --extend RUN --epochs N "
        "--out NEW; to train on with other settings: byol pretrain --from RUN --out NEW.",
    ),
    "extend": Verb(
        function="extend",
        does="go on with a longer schedule, in a new run",
        usage="RUN --epochs N --out NEW [flags]",
        examples=("byol extend runs/photos --epochs 400 --out runs/longer",),
        words=("run",),
        ask={
            "run": "which run to extend",
            "epochs": "how many epochs in all",
            "out": "where to write the longer run",
        },
        others="all else stays as the run has it; to train on with other settings: byol pretrain --from RUN "
        "--out NEW.",
    ),
    "eval": Verb(
        function="judge",
        does="measure an encoder beside what it has to beat",
        usage="PROTOCOL RUN --data PATH [flags]",
        examples=("byol eval knn runs/photos --data labelled",),
    ),
    "compare": Verb(
        function="compare",
        does="is A better than B? exit code 0 yes, 3 undecided, 4 B is",
        usage="RUN_A RUN_B --data PATH [flags]",
        examples=("byol compare runs/new runs/old --data labelled && echo better",),
        words=("a", "b"),
        ask={"a": "which two encoders", "b": "which two encoders", "data": "which images"},
        start="protocol",
        note="Exit code 0: A is better; 3: undecided; 4: B is better.",
    ),
    "recipes": Verb(
        function="recipes",
        does="list the recipes, print one, or show how two differ",
        usage="[RECIPE [OTHER]]",
        examples=("byol recipes imagenet-300 cifar10-small",),
        words=("name", "other"),
    ),
    "ablate": Verb(
        function="ablate",
        does="run a table of recipes under one budget",
        usage="TABLE --out DIR [flags]",
        examples=("byol ablate predictor-target --out tables    # once more: goes on",),
        words=("table",),
        ask={"table": "which table", "out": "where to write the table and its runs"},
        lists="table",
    ),
    "bench": Verb(
        function="bench",
        does="how fast is a recipe here, and how near to the limit?",
        usage="[RECIPE | FILE.json] [flags]",
        examples=("byol bench photos --batch-size 32",),
        words=("recipe",),
        start="recipe",
        shown=_RECIPE_FIELDS[1:],
    ),
    "pack": Verb(
        function="pack",
        does="write a compact copy of a set as one file",
        usage="PATH --out FILE [flags]",
        examples=("byol pack ~/photos --out photos.pack --short-side 160",),
        words=("data",),
        ask={"data": "which images", "out": "where to write the pack"},
    ),
    "import": Verb(
        function="import_official",
        does="turn an officially published checkpoint into an encoder",
        usage="FILE.pkl --out RUN [flags]",
        examples=("byol import pretrain_res50x1.pkl --out runs/official",),
        words=("file",),
        ask={"file": "which checkpoint", "out": "where to write the encoder"},
    ),
    "export": Verb(
        function="export",
        does="write an encoder for other programs, and prove it",
        usage="RUN --out FILE [flags]",
        examples=("byol export runs/photos --out photos.pth",),
        words=("encoder",),
        ask={"encoder": "which encoder", "out": "where to write the file"},
        lists="format",
    ),
}


def find(words: list[str]) -> tuple[str, Verb, list[str]]:
    """Return the name of a command ("pack", "eval knn"), its verb, and the words behind it.

    Raises:
        UserError: there is no such verb or protocol.
    """
    name, *words = words
    verb = choose(name, VERBS, "command")
    if name == "eval" and words and not words[0].startswith("-"):
        protocol = words[0]
        if protocol not in EVALUATIONS and any(mark in protocol for mark in "/:.~"):  # a run, a network
            raise UserError(f"say which protocol before {protocol}: byol eval {verb.usage}.")
        return f"eval {protocol}", choose(protocol, EVALUATIONS, "protocol"), words[1:]
    return name, verb, words


def choose(name: str, among: Mapping[str, Value], what: str) -> Value:
    """Return what a name stands for.

    Raises:
        UserError: there is nothing of that name; the nearest is given.
    """
    if name not in among:
        remedy = hint(name, among, f"there are {', '.join(among)}.")
        raise UserError(f"there is no {what} '{name}'; {remedy}")
    return among[name]


def hint(word: str, among: Iterable[str], otherwise: str, cutoff: float = 0.4) -> str:
    """Return the nearest of some names as a question, or else another remedy."""
    import difflib

    near = difflib.get_close_matches(word, list(among), n=1, cutoff=cutoff)
    return f"did you mean {near[0]}?" if near else otherwise


def recipes() -> Mapping[str, Callable[[], Any]]:
    """Return the named recipes."""
    from byol.recipe.names import RECIPES

    return RECIPES


def tables() -> Mapping[str, Callable[[], Any]]:
    """Return the tables that `ablate` knows."""
    from byol.lab.tables import TABLES

    return TABLES


def protocols() -> Mapping[str, Callable[[], Any]]:
    """Return the protocols by which `judge` and `compare` judge."""
    return {name: entry.make for name, entry in PROTOCOLS.items()}


def formats() -> Mapping[str, Any]:
    """Return the formats of files that `export` writes."""
    from byol.weights.formats import FORMATS

    return FORMATS


NAMES: dict[str, Callable[[], Mapping[str, Any]]] = {  # parameter -> the names it may have
    "format": formats,
    "name": recipes,
    "other": recipes,
    "protocol": protocols,
    "recipe": recipes,
    "table": tables,
}
