"""What a signature and a docstring give to a shell."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from torch import Tensor, nn
from torch.utils.data import Dataset

from byol.cli.signature import REQUIRED, arguments, parameters, shell_type, spread_out, summary
from byol.recipe.names import RECIPES

PATH = str | os.PathLike[str]


@pytest.mark.parametrize(
    ("annotation", "given"),
    [
        (int, int),
        (bool, bool),
        (float | None, float | None),
        (PATH, str),
        (Path | None, str | None),
        (PATH | Tensor | Dataset[Any], str),
        (Sequence[PATH | nn.Module], tuple[str, ...]),
        (tuple[float, ...], tuple[float, ...]),
        (Literal["a", "b"], Literal["a", "b"]),
        (nn.Module | None, None),
        (Tensor, None),
        (Sequence[nn.Module], None),
    ],
)
def test_a_shell_can_give_words_numbers_and_switches(annotation: Any, given: Any) -> None:
    assert shell_type(annotation) == given


def example(
    data: PATH | Tensor, *, encoder: nn.Module | None = None, size: int = 3, many: Sequence[PATH] = ()
) -> None:
    """Do one thing, e.g. this. And more.

    Args:
        data: where images are;
            a folder or `builtin`.
        encoder: a module.
        size: in pixels; None for all: it depends.
        many: others.

    Raises:
        UserError: none: of these.
    """


def test_parameters_have_flags_defaults_and_help() -> None:
    data, size, many = parameters(example)
    assert (data.flag, data.default, data.metavar, data.is_path) == ("--data", REQUIRED, "PATH", True)
    assert data.help == "where images are; a folder or builtin."
    assert (size.flag, size.default, size.metavar, size.help) == (
        *("--size", 3, "INT"),
        "in pixels; by default all: it depends.",
    )
    assert (many.type, many.metavar, many.is_several) == (tuple[str, ...], "PATH ...", True)


def test_a_docstring_gives_its_first_sentence_and_its_arguments() -> None:
    assert summary(example) == "Do one thing, e.g. this."
    assert set(arguments(example)) == {"data", "encoder", "size", "many"}
    assert summary(None.__class__) is not None
    assert arguments(parameters.__class__) == {}


@pytest.mark.parametrize("name", RECIPES)
def test_the_fields_of_every_recipe_have_help(name: str) -> None:
    fields = list(spread_out(RECIPES[name]()))
    assert len({one.name for one in fields}) == len(fields) > 20
    assert [one.name for one in fields if not one.help and not one.name.endswith("kind")] == []


def in_python(data: PATH | Tensor) -> None:
    """Do one thing.

    Args:
        data: a path, or two; in Python also what `byol.load` has opened, and more; None for none. And so on.
    """


def test_help_leaves_to_python_what_a_shell_cannot_give() -> None:
    assert arguments(in_python) == {"data": "a path, or two; by default none. And so on."}
