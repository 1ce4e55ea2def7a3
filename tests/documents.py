"""How the code blocks of the README and of the docs are run. The rules stand here and nowhere else.

Every page has a folder of its own, in which its blocks are run from the first to the last. What lies there
beforehand:

- `photos/`: pictures without labels; `photos.txt`: a list of them; `a.jpg`, `b.png`: two more;
- `labelled/`, `flowers/`: pictures of two classes in `train/` and `test/`;
- `RUN`, `RUN_A`, `RUN_B`: finished runs of a small recipe (a page that makes its own RUN finds none).

Python blocks of a page share their names, as in a notebook. A Python block whose title is the name of a file
is that file, for a shell block to run. Of a shell block every command is run: `byol` in this process,
`torchrun` and `python` in others. A block that is not run has a title that says why: one of `REASONS`.

So that this takes minutes and not days, and nothing else is changed:

- the recipes of `SHORT` learn for one epoch of small batches of small views with small networks;
- protocols that train a network get the flags of `QUICK`.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
from PIL import Image

from byol.cli import main
from byol.data.image.views import TwoViews
from byol.model.encoder import ConvNet
from byol.model.head import Mlp
from byol.recipe.spec import Recipe

ROOT = Path(__file__).parent.parent
SHORT = ("photos", "builtin")
QUICK = {
    "byol eval linear-paper": "--epochs 1 --lrs 0.1",
    "byol eval fewlabel-linear": "--fraction 0.5",
    "byol eval fewlabel-finetune": "--fraction 0.5 --by.lrs 0.1 --by.epochs 1",
    "byol eval finetune": "--epochs 1 --at-least 1 --lrs 0.1",
    "byol eval transfer": "--finetune.epochs 1 --finetune.at-least 1 --finetune.lrs 0.1",
    "byol bench": "--rounds 1",
}
REASONS = {
    "in a clone": "`.ci/run` runs it in a fresh clone",
    "needs lightning": "`make test-frameworks` runs it",
    "needs accelerate": "`make test-frameworks` runs it",
    "needs two machines": "there is one",
    "needs a GPU": "there is none",
    "needs a file": "the file could not be had",
    "takes minutes": "",
}
CODES = {"byol compare": {0, 3, 4}}  # exit codes that are answers
FENCE = re.compile(r"^( *)```(\w+)(?: title=\"([^\"]*)\")?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A code block of a page.

    Args:
        page: path of its file, from the root.
        line: of the fence, from 1.
        language: python, bash or text; the last is no code.
        title: as in the fence, or empty.
        code: without the fence and its indent.
    """

    page: str
    line: int
    language: str
    title: str
    code: str

    @property
    def is_run(self) -> bool:
        """It is code, and nothing is said against running it."""
        return self.language != "text" and self.title not in REASONS


def pages() -> list[str]:
    """Return what people read: README, CONTRIBUTING and docs, from the root."""
    return [
        "README.md",
        "CONTRIBUTING.md",
        *sorted(str(one.relative_to(ROOT)) for one in ROOT.glob("docs/**/*.md")),
    ]


def blocks(page: str) -> list[Block]:
    """Return the code blocks of a page, in order."""
    text = (ROOT / page).read_text()
    found = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, match[2], match[3] or "", dedent(match[4])))
    assert len(found) * 2 == len(re.findall(r"^ *```", text, re.MULTILINE)), f"{page}: a fence cannot be read"
    return found


def commands(code: str) -> list[list[str]]:
    """Return the commands of a shell block as words, without comments; a backslash continues a line."""
    lines = code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def shortened(recipe: Recipe) -> Recipe:
    """Return a recipe that takes seconds: the same slots, one epoch, and everything small."""
    assert isinstance(recipe.views, TwoViews)
    return replace(
        recipe,
        views=replace(recipe.views, size=24),
        evaluation_size=24,
        projector=Mlp(hidden=16, out=8),
        predictor=Mlp(hidden=16, out=8),
        encoder=ConvNet(widths=(8, 16)),
        batch_size=4,
        epochs=1,
        warmup_epochs=0,
    )


def draw_pictures(folder: Path) -> None:
    """Draw what every page finds: see above."""
    random = np.random.default_rng(0)

    def picture(path: Path, color: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 128, (*random.integers(28, 48, 2), 3), dtype=np.uint8)
        pixels[..., color] += 100
        Image.fromarray(pixels).save(path)

    for number in range(12):
        picture(folder / "photos" / f"{number:02d}.jpg", number % 3)
    paths = sorted((folder / "photos").iterdir())
    (folder / "photos.txt").write_text("".join(f"{one.relative_to(folder)}\n" for one in paths))
    picture(folder / "a.jpg", 0)
    picture(folder / "b.png", 1)
    for name, split in product(("labelled", "flowers"), ("train", "test")):
        for number in range({"train": 32, "test": 12}[split]):
            color = number % 2
            picture(folder / name / split / ("red", "green")[color] / f"{number:02d}.jpg", color)


def run_page(page: str, chosen: Callable[[Block], bool] = lambda block: block.is_run) -> None:
    """Run the blocks of a page in the folder we stand in.

    Args:
        page: path of its file, from the root.
        chosen: which blocks.
    """
    names: dict[str, Any] = {"__name__": page}
    for block in blocks(page):
        if not chosen(block):
            continue
        if block.language == "bash":
            for words in commands(block.code):
                _run_command(words, f"{block.page}:{block.line}")
        elif block.title.endswith(".py"):
            Path(block.title).write_text(block.code)
        else:
            # Empty lines in front, so that a traceback names the line of the page.
            exec(compile("\n" * block.line + block.code, str(ROOT / page), "exec"), names)


def _run_command(words: list[str], where: str) -> None:
    line = " ".join(words)
    flags = [
        flag for start, flags in QUICK.items() if f"{line} ".startswith(f"{start} ") for flag in flags.split()
    ]
    if words[0] == "byol":
        try:
            code = main([*words[1:], *flags])
        except SystemExit as stopped:  # --help
            code = int(stopped.code or 0)
    else:
        python = {"torchrun": [sys.executable, "-m", "torch.distributed.run"], "python": [sys.executable]}
        assert words[0] in python, f"{where}: no rule for {words[0]}; see {__file__}"
        done = subprocess.run([*python[words[0]], *words[1:]], capture_output=True, text=True, check=False)
        code = done.returncode
        assert code == 0, f"{where}: {line}\n{done.stdout}{done.stderr}"
    allowed = next((codes for start, codes in CODES.items() if line.startswith(start)), {0})
    assert code in allowed, f"{where}: {line}: exit code {code}"
