"""Taste that outlives us: imports point down, and nothing heavy is imported before it is needed."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import byol

SOURCE = Path(byol.__file__).parent
LAYERS = [  # a module imports only rows below its own, or its own row's folder
    {"__init__", "__main__"},
    {"cli"},
    {"lab.laboratory", "lab.speed", "training.loop"},
    {"lab.products", "lab.trials", "training.bookends"},
    {"training.request", "training.watch"},
    {
        "lab.findings",
        "page.figure",
        "training.guard",
        "training.result",
        "training.signals",
        "weights.formats",
        "weights.official",
    },
    {"training.learner"},
    {"module"},
    {"evaluate.judging", "recipe.names"},
    {"lab.tables", "recipe.imagenet", "recipe.small", "training.timeline"},
    {"lab.changes", "recipe.cifar10", "weights.haiku", "weights.pickled"},
    {"evaluate.measured", "evaluate.protocol.table", "evaluate.result"},
    {"evaluate.protocol.few_labels"},
    {"evaluate.protocol.finetune", "evaluate.protocol.knn", "evaluate.protocol.linear"}
    | {"evaluate.protocol.linear_sgd", "evaluate.protocol.retrain"},
    {"evaluate.protocol.rows", "evaluate.protocol.settings", "evaluate.protocol.sweep"},
    {"evaluate.protocol.slot"},
    {"evaluate.knn", "evaluate.supervised", "evaluate.unlabelled", "recipe.spec", "training.classifier"},
    {"evaluate.features", "evaluate.groups", "evaluate.logistic", "evaluate.parts", "evaluate.saved"},
    {"evaluate.spread", "evaluate.task"},
    {"evaluate.scoring"},
    {"evaluate.metrics"},
    {"evaluate.statistics", "weights.pretrained"},
    {"weights.zoo"},
    {"data.loader", "data.packing", "weights.matching"},
    {"data.image.views", "data.opening"},
    {"data.builtin", "data.image.augmentation", "data.image.preprocessing", "data.small"},
    {"data.image.distort", "data.images"},
    {"data.index.dataset", "data.index.folder", "data.index.listing", "data.index.packfile"},
    {"data.index.paths", "data.index.slot"},
    {"data.bad", "data.draws", "data.image.resample", "data.index.archive", "data.index.mapped"},
    {"data.image.decode", "data.order", "data.views", "optim"},
    {"model.maps", "model.predictor", "model.target"},
    {"model.encoder"},
    {"model.resnet"},
    {"model.resnet"},
    {"algorithm", "model.head", "model.initialization"},
    {"model.norm", "model.synchronized", "objective", "schedule"},
    {"lab.machine", "page.plots"},
    {"run.checkpoint", "run.folder", "run.provenance", "system.processes"},
    {"run.record", "system.collective", "system.device"},
    {
        "system.cache",
        "system.digest",
        "system.files",
        "system.lock",
        "system.progress",
        "system.stop",
        "system.stopwatch",
    },
    {"answer", "errors"},
]
ROW = {name: number for number, row in enumerate(LAYERS) for name in row}
PACKAGES = {
    *("data", "data.image", "data.index", "evaluate", "evaluate.protocol", "lab", "model", "page", "recipe"),
    *("run", "system", "training", "weights"),
}  # their __init__ holds a docstring and nothing else


def modules() -> dict[str, Path]:
    names = {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in SOURCE.rglob("*.py")}
    return {name: path for name, path in names.items() if name.removesuffix(".__init__") not in PACKAGES}


def imports(path: Path) -> set[str]:
    """Names of byol's modules that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "byol":
            inner = node.module.removeprefix("byol").removeprefix(".")
            found |= {inner} if inner in ROW else {f"{inner}.{alias.name}".strip(".") for alias in node.names}
    return found


def test_every_module_has_its_row() -> None:
    assert set(modules()) == set(ROW)


def test_imports_point_down() -> None:
    upward = {
        (name, other)
        for name, path in modules().items()
        for other in imports(path)
        if ROW[other] <= ROW[name]
    }
    assert upward == set()


def test_packages_hold_no_code() -> None:
    for package in PACKAGES:
        body = ast.parse((SOURCE / package.replace(".", "/") / "__init__.py").read_text()).body
        assert len(body) == 1, package


def test_evaluation_does_not_know_the_algorithm() -> None:
    for name, path in modules().items():
        if name.startswith("evaluate."):
            assert not imports(path) & {"algorithm", "optim", "schedule"}, name
            assert not [other for other in imports(path) if other.startswith("training.")], name


def test_the_algorithm_knows_no_variant() -> None:
    text = (SOURCE / "algorithm.py").read_text().lower()
    assert not [word for word in ("simsiam", "directpred", "audio", "video", "isinstance") if word in text]


def test_no_drawer_modules() -> None:
    drawers = {"utils", "helpers", "common", "base", "manager", "misc"}
    assert not drawers & {part for name in modules() for part in name.split(".")}


def test_help_answers_at_once_and_imports_neither_torch_nor_torchvision() -> None:
    code = (
        "import sys; sys.argv = ['byol', '--help']; from byol.cli import main; main();"
        "sys.exit(bool({'torch', 'torchvision', 'numpy', 'pydantic', 'tyro'} & set(sys.modules)))"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    assert done.returncode == 0, done.stdout + done.stderr
    assert "byol pretrain" in done.stdout
    assert seconds < 0.5


def test_every_public_name_is_there_and_documented() -> None:
    for name in byol.__all__:
        assert getattr(byol, name).__doc__, name
    assert set(byol.__all__) == set(byol._HOME)


def test_a_public_name_stays_what_it_is_when_used_again() -> None:
    code = "import byol; assert all(callable(byol.pretrain) for _ in range(2))"
    subprocess.run([sys.executable, "-c", code], check=True)
