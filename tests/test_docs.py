"""What the documents say exists does: functions, recipes, tables, links; and their code blocks run."""

import re
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
from tests.documents import REASONS, ROOT, SHORT, Block, blocks, draw_pictures, pages, run_page, shortened

import byol
from byol.cli.verbs import EVALUATIONS
from byol.evaluate.unlabelled import Unlabelled
from byol.recipe.names import RECIPES
from byol.recipe.spec import Recipe

SLOW = {
    f"docs/{page}.md"
    for page in (
        *("evaluation", "guides/did-it-help", "guides/many-processes", "guides/your-own-loop"),
        "guides/your-photos",
    )
}
WITH_CODE = [page for page in pages() if any(block.is_run for block in blocks(page))]
FRAMEWORKS = ("needs lightning", "needs accelerate")
MAKES_RUN = re.compile(r'byol\.pretrain\([^)]*, "RUN"|--out RUN\b')
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


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures and finished runs, to be copied."""
    folder = tmp_path_factory.mktemp("prepared")
    draw_pictures(folder)
    return folder


@pytest.fixture
def page_folder(
    prepared: Path,
    tmp_path: Path,
    tiny: Callable[[Path | str], Recipe],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """What a page finds: see `documents.py`."""
    if not (prepared / "RUN").exists():
        for name in ("RUN", "RUN_A", "RUN_B"):
            byol.pretrain(prepared / "photos", prepared / name, recipe=tiny(""))
    folder = tmp_path / "page"
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("byol.training.planning.DEFAULT", "2s")
    monkeypatch.setattr("byol.training.planning._FEWEST_STEPS", 5)
    monkeypatch.setattr("byol.training.rehearsal._SECONDS", 0.3)
    for name in SHORT:
        recipe = shortened(RECIPES[name]())
        monkeypatch.setitem(RECIPES, name, partial(replace, recipe))
    return folder


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.slow) if page in SLOW else page for page in WITH_CODE]
)
def test_every_code_block_runs(page: str, page_folder: Path) -> None:
    if any(MAKES_RUN.search(block.code) for block in blocks(page)):
        shutil.rmtree(page_folder / "RUN")
    run_page(page)


@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec:FutureWarning")  # Lightning 2.6 beside torch 2.14
@pytest.mark.parametrize("reason", FRAMEWORKS)
def test_every_code_block_that_needs_a_framework_runs(reason: str, page_folder: Path) -> None:
    pytest.importorskip(reason.removeprefix("needs "))

    def wanted(block: Block) -> bool:
        return block.is_run or block.title == reason

    needed = [page for page in pages() if any(block.title == reason for block in blocks(page))]
    for page in needed:
        run_page(page, wanted)


def test_a_block_that_is_not_run_says_why_and_there_are_few() -> None:
    every = [block for page in pages() for block in blocks(page)]
    for block in every:
        where = f"{block.page}:{block.line}"
        assert block.language in ("python", "bash", "text"), where
        assert block.title in ("", *REASONS) or block.title.endswith(".py"), f"{where}: {block.title}"
    files = [block for block in every if block.title.endswith(".py")]
    for file in files:
        shells = [block.code for block in blocks(file.page) if block.language == "bash" and block.is_run]
        assert any(file.title in code for code in shells), (
            f"{file.page}:{file.line}: nothing runs {file.title}"
        )
    never = [block for block in every if not block.is_run and block.title not in FRAMEWORKS]
    assert len([block for block in never if block.language != "text"]) <= 6
    assert len([block for block in every if block.is_run]) > 25


def test_the_example_of_the_algorithm_gives_the_loss_of_independent_directions(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_page("docs/algorithm.md")
    loss = float(capsys.readouterr().out.split()[0])
    assert 3.0 < loss < 5.0  # independent directions: about 4


def test_every_public_name_stands_in_the_reference_and_nothing_else_does() -> None:
    text = "".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    named = re.findall(r"^::: byol\.(\w+)$", text, re.MULTILINE)
    assert len(named) == len(set(named))
    assert set(named) == set(byol.__all__)


def test_relative_links_of_what_is_read_outside_the_site_lead_somewhere() -> None:
    for page in ("README.md", "CONTRIBUTING.md"):
        for link in re.findall(r"\]\(([^)#:]+)[^):]*\)", (ROOT / page).read_text()):
            assert (ROOT / link).exists(), f"{page}: {link}"


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"^- \[(.*)\]\((.*)\)$", (folder / "index.md").read_text(), re.MULTILINE)
    notes = sorted(note for note in folder.glob("*.md") if note.name != "index.md")
    assert listed == [(note.read_text().splitlines()[0].removeprefix("# "), note.name) for note in notes]


def test_every_protocol_is_documented_and_every_documented_one_exists() -> None:
    evaluation = (ROOT / "docs" / "evaluation.md").read_text()
    named = set(re.findall(r"byol eval ([a-z-]+) ", evaluation))
    assert named == set(EVALUATIONS)
    assert set(re.findall(r"byol eval ([a-z-]+) ", (ROOT / "README.md").read_text())) <= named
    for name in re.findall(r"`(byol\.\w+)[(`]", evaluation):
        assert callable(resolve(name)), name


def test_every_measure_without_labels_has_its_agreement_in_the_docs() -> None:
    table = (ROOT / "docs" / "unlabelled.md").read_text().replace("-", "_").lower()
    for field in fields(Unlabelled):
        if field.name != "num_images":
            assert f"\n| {field.name.replace('_', ' ')} |" in table.replace("_", " "), field.name
