import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.evaluate.conftest import MakeSet

from byol.data.image.preprocessing import Preprocessing
from byol.errors import UserError
from byol.evaluate.judging import compare, judge, measure, transfer
from byol.evaluate.protocol import FineTune, Knn, Linear
from byol.model.encoder import ConvNet
from byol.weights.pretrained import Pretrained, save_encoder


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYOL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def run(tmp_path: Path, encoder: Pretrained) -> Path:
    """A folder with an encoder, as a run leaves it."""
    folder = tmp_path / "run"
    folder.mkdir()
    spec = ConvNet(widths=(4, 8))
    save_encoder(folder / "encoder.safetensors", encoder.encoder, spec, Preprocessing(size=12))
    return folder


def deaf(like: Pretrained) -> Pretrained:
    """Return an encoder that hears next to nothing of its images."""

    class Deaf(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            corner = images[:, 0, 0, 0, None]
            return torch.cat([corner.sin(), corner.cos()], dim=1)

    how = replace(like.preprocessing, mean=(0, 0, 0), std=(0.01,) * 3)
    return Pretrained(Deaf(), how, name="deaf").eval()


def colour(like: Pretrained) -> Pretrained:
    class Colour(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            means = images.mean(dim=(2, 3))
            return means - means.mean(dim=1, keepdim=True)

    return Pretrained(Colour(), like.preprocessing.unnormalized(), name="colour").eval()


def test_a_result_stands_beside_what_it_has_to_beat_and_is_filed(run: Path, make_set: MakeSet) -> None:
    folder = str(make_set())
    result = judge(Knn(k=5), run, folder, against=[run / "encoder.safetensors"])
    names = [row.encoder for row in result.rows]
    assert names == [str(run), "random initialisation", "raw pixels", str(run / "encoder.safetensors")]
    assert (result.learnt_from, result.judged, result.classes, result.metric) == (60, 30, 3, "top1")
    for row in result.rows:
        figure = row.figures["top1"]
        assert 0 <= figure.low <= figure.value <= figure.high <= 100
        assert row.confusion is not None
        assert sum(map(sum, row.confusion)) == 30
    same = result.rows[3].behind
    assert same is not None
    assert (same.value, same.p, same.verdict) == (0, 1, "undecided")
    (line,) = (run / "results" / "results.jsonl").read_text().splitlines()
    assert json.loads(line) == json.loads(json.dumps(result.to_json()))
    assert result.provenance["versions"]["numpy"] == np.__version__
    judge(Linear(strengths=(1.0,)), run, folder)
    assert len((run / "results" / "results.jsonl").read_text().splitlines()) == 2


def test_the_same_call_gives_the_same_figures(encoder: Pretrained, make_set: MakeSet) -> None:
    folder = str(make_set())
    first, second = (judge(Knn(k=5), encoder, folder) for _ in range(2))
    assert [row.figures for row in first.rows] == [row.figures for row in second.rows]
    assert judge(Knn(k=5), encoder, folder, seed=1).rows[1].figures != first.rows[1].figures


def test_a_better_encoder_is_told_from_a_worse_one(encoder: Pretrained, make_set: MakeSet) -> None:
    folder = str(make_set())
    good, bad = colour(encoder), deaf(encoder)
    won, lost, drawn = (
        compare(a, b, folder, protocol=Knn(k=5)) for a, b in [(good, bad), (bad, good), (good, good)]
    )
    assert (won.exit_code, lost.exit_code, drawn.exit_code) == (0, 4, 3)
    assert won.difference.value == -lost.difference.value
    assert won.difference.p < 0.05
    assert won.sentence().startswith("colour is better than deaf: +")
    assert lost.sentence().startswith("colour is better than deaf: -")
    assert drawn.sentence().startswith("colour and colour cannot be told apart: +0.0")


def test_warnings_and_leave_one_out_are_part_of_the_result(encoder: Pretrained, make_set: MakeSet) -> None:
    folder = make_set()
    (folder / "test" / "red" / "copy.png").write_bytes((folder / "train" / "red" / "01.png").read_bytes())
    result = judge(Knn(k=5), encoder, str(folder))
    assert "1 of the 31 images" in result.warnings[0]
    assert result.metric == "mean_per_class"
    alone = judge(Knn(k=5), encoder, str(make_set("alone", test=0)))
    assert alone.leave_one_out
    assert "each judged by all others" in alone.sentence()


def test_transfer_is_a_table_of_sets_and_protocols(encoder: Pretrained, make_set: MakeSet) -> None:
    sets = [str(make_set("a")), str(make_set("b", classes=("green", "red")))]
    protocols = Linear(strengths=(1.0,)), FineTune(at_least=1, epochs=1, lrs=(0.1,))
    table = transfer(encoder, sets, protocols=protocols).table()
    assert table[0] == ["data", "protocol", "metric", "tiny", "random initialisation"]
    assert [line[:3] for line in table[1:]] == [
        [name, protocol, "top-1"] for name in sets for protocol in ("linear", "finetune")
    ]
    with pytest.raises(UserError, match="say which sets"):
        transfer(encoder, [])


def test_too_many_neighbours_are_refused_with_the_limit(encoder: Pretrained, make_set: MakeSet) -> None:
    with pytest.raises(UserError, match=r"k is 100, but 60 labelled images can vote; choose k in \[1, 60\]"):
        judge(Knn(k=100), encoder, str(make_set()))


def test_measures_without_labels_see_the_held_out_images(run: Path, make_set: MakeSet) -> None:
    folder = str(make_set())
    found = measure(run, folder, against=[run])
    assert found.encoders == (str(run), "random initialisation", str(run))
    assert found.rows[0] == found.rows[2] != found.rows[1]
    assert found.rows[0].num_images == 30
    assert len(found.table()) == 4
    (line,) = (run / "results" / "results.jsonl").read_text().splitlines()
    assert json.loads(line)["protocol"] == "unlabelled"


def test_columns_of_a_transfer_hold_the_encoder_of_their_title(
    encoder: Pretrained, make_set: MakeSet
) -> None:
    """Nearest neighbours are also beside raw pixels, and the encoder may stand against itself."""
    protocols = Linear(strengths=(1.0,)), Knn(k=5)
    found = transfer(encoder, [str(make_set())], protocols=protocols, against=[encoder])
    titles, linear, neighbours = found.table()
    assert titles[3:] == ["tiny", "random initialisation", "tiny (2)", "raw pixels"]
    assert linear[6] == ""
    figures = {row.encoder: str(row.figures["top1"]) for row in found.results[1].rows}
    assert neighbours[3:] == [
        figures[name] for name in ("tiny", "random initialisation", "tiny", "raw pixels")
    ]


class Shaped(torch.nn.Module):
    """An encoder whose output is of the shape that it is told."""

    def __init__(self, shape: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.shape(images)


@pytest.mark.parametrize(
    "shape", [lambda x: x, lambda x: x.mean(dim=(1, 2, 3)), lambda x: x.flatten(1)[:1], lambda x: (x, x)]
)
def test_an_output_that_is_no_representation_is_told(
    shape: Callable[[torch.Tensor], torch.Tensor], make_set: MakeSet
) -> None:
    wrong = Pretrained(Shaped(shape), Preprocessing(size=12))
    with pytest.raises(UserError, match=r"it must give \(2, D\)"):
        judge(Knn(k=5), wrong, str(make_set()))


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_out_of_its_range_is_told(seed: int, encoder: Pretrained, make_set: MakeSet) -> None:
    folder = str(make_set())
    with pytest.raises(UserError, match=f"seed is {seed}; it must lie in"):
        judge(Knn(k=5), encoder, folder, seed=seed)
    with pytest.raises(UserError, match=f"seed is {seed}; it must lie in"):
        measure(encoder, folder, seed=seed)


def test_an_encoder_comes_back_in_the_mode_in_which_it_was(encoder: Pretrained, make_set: MakeSet) -> None:
    encoder.train()
    encoder.encoder.get_submodule("layers.1").eval()
    modes = [module.training for module in encoder.modules()]
    judge(Knn(k=5), encoder, str(make_set()))
    measure(encoder, str(make_set("other")))
    assert [module.training for module in encoder.modules()] == modes
