from pathlib import Path

import pytest
from PIL import Image

from byol.page.plots import draw_baselines, label, new_figure, save_figure, title
from byol.system.terminal import printable


def test_a_figure_has_its_size_its_baselines_and_names_on_its_axes(tmp_path: Path) -> None:
    figure = new_figure(4.0, 2.0)
    axes = figure.subplots()
    draw_baselines(axes.axhline, pixels=30.0, random=40.0)
    label(axes, x="step", y="kNN top-1, %")
    assert [line.get_label() for line in axes.lines] == ["raw pixels", "random initialization"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "kNN top-1, %")
    save_figure(figure, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (600, 300)
        assert picture.info["Software"] == "byol"


@pytest.mark.parametrize(
    "name", ["$x$", "a_b$", "$\\frac{", "日本語", "\x1b[31m\x07\n", "[bold]", "caf\udce9", "😀"]
)
def test_a_name_is_drawn_as_it_is(name: str, tmp_path: Path) -> None:
    figure = new_figure(4.0, 2.0)
    axes = figure.subplots()
    title(axes, name)
    save_figure(figure, tmp_path / "a.png")
    assert axes.get_title() == printable(name)
    assert (tmp_path / "a.png").stat().st_size > 0
