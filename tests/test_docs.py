"""What the documents say exists does: functions, recipes, tables, and the example runs."""

import re
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

from byol.cli import PROTOCOLS
from byol.evaluate.unlabelled import Unlabelled
from byol.recipe.names import RECIPES

ROOT = Path(__file__).parent.parent
ALGORITHM = (ROOT / "docs" / "algorithm.md").read_text()


def resolve(name: str) -> object:
    """Return what a dotted name stands for: a module's attribute, or an attribute of that."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise AssertionError(name)


def test_every_function_that_algorithm_md_names_exists() -> None:
    names = set(re.findall(r"`(byol(?:\.\w+)+)`", ALGORITHM))
    assert len(names) > 30
    for name in sorted(names):
        assert callable(resolve(name)), name


def test_every_recipe_and_file_that_algorithm_md_names_exists() -> None:
    assert set(re.findall(r"`((?:imagenet|cifar10)-[\w-]+)`", ALGORITHM)) <= set(RECIPES)
    files = re.findall(r"`((?:tests|src)/[\w/]+\.py)`", ALGORITHM)
    assert files
    for file in files:
        assert (ROOT / file).is_file(), file


@pytest.mark.parametrize("document", ["docs/algorithm.md"])
def test_the_example_runs(document: str, capsys: pytest.CaptureFixture[str]) -> None:
    example = re.search(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    assert example
    exec(compile(example.group(1), document, "exec"), {})
    loss = float(capsys.readouterr().out.split()[0])
    assert 3.0 < loss < 5.0  # independent directions: about 4


def test_every_protocol_is_documented_and_every_documented_one_exists() -> None:
    evaluation = (ROOT / "docs" / "evaluation.md").read_text()
    named = set(re.findall(r"byol eval ([a-z-]+) ", evaluation))
    assert named == set(PROTOCOLS)
    assert set(re.findall(r"byol eval ([a-z-]+) ", (ROOT / "README.md").read_text())) <= named
    for name in re.findall(r"`(byol\.\w+)[(`]", evaluation):
        assert callable(resolve(name)), name


def test_every_measure_without_labels_has_its_agreement_in_the_docs() -> None:
    table = (ROOT / "docs" / "unlabelled.md").read_text().replace("-", "_").lower()
    for field in fields(Unlabelled):
        if field.name != "num_images":
            assert f"\n| {field.name.replace('_', ' ')} |" in table.replace("_", " "), field.name
