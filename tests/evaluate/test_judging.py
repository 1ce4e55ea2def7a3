import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.evaluate.conftest import MakeSet

from byol.data.image.preprocessing import Preprocessing
from byol.data.opening import Data
from byol.errors import UserError
from byol.evaluate.judging import compare, judge, measure, transfer
from byol.evaluate.metrics import Labels, Metric, Scores
from byol.evaluate.protocol.few_labels import FewLabels
from byol.evaluate.protocol.finetune import FineTune
from byol.evaluate.protocol.knn import Knn
from byol.evaluate.protocol.linear import LinearProbe
from byol.evaluate.protocol.slot import Context, Outcome
from byol.evaluate.task import Task, open_task
from byol.model.encoder import ConvNet
from byol.weights.encoder_file import save_encoder
from byol.weights.pretrained import Pretrained


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


BEATEN = ("random initialization", "raw pixels", "histograms")


def color(like: Pretrained) -> Pretrained:
    class Color(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            means = images.mean(dim=(2, 3))
            return means - means.mean(dim=1, keepdim=True)

    return Pretrained(Color(), like.preprocessing.unnormalized(), name="color").eval()


def test_a_result_stands_beside_what_it_has_to_beat_and_is_filed(run: Path, make_set: MakeSet) -> None:
    folder = str(make_set())
    result = judge(run, folder, protocol=Knn(k=5), against=[run / "encoder.safetensors"])
    names = [row.encoder for row in result.rows]
    assert names == [str(run), *BEATEN, str(run / "encoder.safetensors")]
    assert (result.learned_from, result.judged, result.classes, result.metric) == (60, 30, 3, "top1")
    for row in result.rows:
        top1 = row.metrics["top1"]
        assert 0 <= top1.low <= top1.value <= top1.high <= 100
        assert row.confusion is not None
        assert sum(map(sum, row.confusion)) == 30
    same = result.rows[4].behind
    assert same is not None
    assert (same.value, same.p, same.verdict) == (0, 1, "undecided")
    (line,) = (run / "results" / "results.jsonl").read_text().splitlines()
    assert json.loads(line) == json.loads(json.dumps(result.to_json()))
    assert result.provenance["versions"]["numpy"] == np.__version__
    judge(run, folder, protocol=LinearProbe(strengths=(1.0,)))
    assert len((run / "results" / "results.jsonl").read_text().splitlines()) == 2


def test_the_same_call_gives_the_same_metrics(encoder: Pretrained, make_set: MakeSet) -> None:
    folder = str(make_set())
    first, second = (judge(encoder, folder, protocol=Knn(k=5)) for _ in range(2))
    assert [row.metrics for row in first.rows] == [row.metrics for row in second.rows]
    assert judge(encoder, folder, protocol=Knn(k=5), seed=1).rows[1].metrics != first.rows[1].metrics


def test_a_better_encoder_is_found_better_than_a_worse_one(encoder: Pretrained, make_set: MakeSet) -> None:
    folder = str(make_set())
    good, bad = color(encoder), deaf(encoder)
    won, lost, drawn = (
        compare(a, b, folder, protocol=Knn(k=5)) for a, b in [(good, bad), (bad, good), (good, good)]
    )
    assert (won.exit_code, lost.exit_code, drawn.exit_code) == (0, 4, 3)
    assert won.difference.value == -lost.difference.value
    assert won.difference.p < 0.05
    assert won.sentence().startswith("color is better than deaf: +")
    assert lost.sentence().startswith("color is better than deaf: -")
    assert drawn.sentence().startswith("color and color are undecided: +0.0")


def test_warnings_and_leave_one_out_are_part_of_the_result(encoder: Pretrained, make_set: MakeSet) -> None:
    folder = make_set()
    (folder / "test" / "red" / "copy.png").write_bytes((folder / "train" / "red" / "01.png").read_bytes())
    result = judge(encoder, str(folder), protocol=Knn(k=5))
    assert "1 of the 31 images" in result.warnings[0]
    assert result.metric == "mean_per_class"
    alone = judge(encoder, str(make_set("alone", test=0)), protocol=Knn(k=5))
    assert alone.leave_one_out
    assert "each judged by all others" in alone.sentence()


def test_transfer_is_a_table_of_sets_and_protocols(encoder: Pretrained, make_set: MakeSet) -> None:
    sets = [str(make_set("a")), str(make_set("b", classes=("green", "red")))]
    protocols = LinearProbe(strengths=(1.0,)), FineTune(at_least=1, epochs=1, lrs=(0.1,))
    table = transfer(encoder, sets, protocols=protocols).table()
    assert table[0] == ["data", "protocol", "metric", "tiny", *BEATEN]
    assert [line[:3] for line in table[1:]] == [
        [name, protocol, "top-1"] for name in sets for protocol in ("linear", "finetune")
    ]
    with pytest.raises(UserError, match="say which sets"):
        transfer(encoder, [])


def test_too_many_neighbours_are_refused_with_the_limit(encoder: Pretrained, make_set: MakeSet) -> None:
    with pytest.raises(UserError, match=r"k is 100, but 60 labelled images can vote; choose k in \[1, 60\]"):
        judge(encoder, str(make_set()), protocol=Knn(k=100))


def test_measures_without_labels_see_the_held_out_images(run: Path, make_set: MakeSet) -> None:
    folder = str(make_set())
    found = measure(run, folder, against=[run])
    assert found.encoders == (str(run), "random initialization", str(run))
    assert found.rows[0] == found.rows[2] != found.rows[1]
    assert found.rows[0].num_images == 30
    assert len(found.table()) == 4
    (line,) = (run / "results" / "results.jsonl").read_text().splitlines()
    assert json.loads(line)["protocol"] == "unlabelled"


def test_columns_of_a_transfer_hold_the_encoder_of_their_title(
    encoder: Pretrained, make_set: MakeSet
) -> None:
    """Nearest neighbors are also beside what has not learned, and the encoder may stand against itself."""
    protocols = FineTune(at_least=1, epochs=1, lrs=(0.1,)), Knn(k=5)
    found = transfer(encoder, [str(make_set())], protocols=protocols, against=[encoder])
    titles, tuned, neighbors = found.table()
    assert titles[3:] == ["tiny", "random initialization", "tiny (2)", "raw pixels", "histograms"]
    assert tuned[6:] == ["", ""]
    scores = {row.encoder: str(row.metrics["top1"]) for row in found.results[1].rows}
    assert neighbors[3:] == [scores[name] for name in ("tiny", BEATEN[0], "tiny", *BEATEN[1:])]


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
        judge(wrong, str(make_set()), protocol=Knn(k=5))


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_out_of_its_range_is_told(seed: int, encoder: Pretrained, make_set: MakeSet) -> None:
    folder = str(make_set())
    with pytest.raises(UserError, match=f"seed is {seed}; it must lie in"):
        judge(encoder, folder, protocol=Knn(k=5), seed=seed)
    with pytest.raises(UserError, match=f"seed is {seed}; it must lie in"):
        measure(encoder, folder, seed=seed)


def test_an_encoder_comes_back_in_the_mode_in_which_it_was(encoder: Pretrained, make_set: MakeSet) -> None:
    encoder.train()
    encoder.encoder.get_submodule("layers.1").eval()
    modes = [module.training for module in encoder.modules()]
    judge(encoder, str(make_set()), protocol=Knn(k=5))
    measure(encoder, str(make_set("other")))
    assert [module.training for module in encoder.modules()] == modes


def test_every_result_has_value_table_sentence_and_json(encoder: Pretrained, make_set: MakeSet) -> None:
    folder, knn = str(make_set()), Knn(k=5)
    result = judge(encoder, folder, protocol=knn)
    top1 = result.rows[0].metrics["top1"]
    assert (result.value, result.low, result.high) == (top1.value, top1.low, top1.high)
    compared = compare(encoder, color(encoder), folder, protocol=knn)
    one, two = (transfer(encoder, [folder] * count, protocols=[knn]) for count in (1, 2))
    measured = measure(encoder, folder)
    assert (one.value, two.value) == (result.value, None)
    assert measured.value == measured.rows[0].rankme
    for found in (result, compared, one, two, measured):
        assert found.to_json()["value"] == found.value
        assert len({len(row) for row in found.table()}) == 1
        assert found.sentence().endswith(".")
        json.dumps(found.to_json())
    told = result.to_json()
    assert (told["top1"], told["low"], told["high"]) == (result.value, top1.low, top1.high)
    assert (told["classes"], told["class_names"]) == (3, ("blue", "green", "red"))
    told = compared.to_json()
    assert (told["low"], told["high"], told["exit_code"]) == (compared.low, compared.high, compared.exit_code)
    assert two.to_json()["results"][1]["top1"] == result.value
    assert "2 evaluations: " in two.sentence()


class Place:
    """What `byol.Run` is to an evaluation: something that knows its path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


def test_paths_of_any_kind_are_taken_and_become_strings_in_json(
    run: Path, make_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_set()
    names = tmp_path / "few.txt"
    names.write_text("".join(f"{color}/{i:02}.png\n" for color in ("blue", "red") for i in range(5)))
    few = FewLabels(lists=(names,), by=Knn(k=3))
    result = judge(Place(run), Place(folder), protocol=few, test=folder / "test", against=[run])
    assert result.data == f"{folder} and {folder / 'test'}"
    assert result.settings["lists"] == [str(names)]
    (line,) = (run / "results" / "results.jsonl").read_text().splitlines()
    assert json.loads(line) == json.loads(json.dumps(result.to_json()))
    monkeypatch.setenv("HOME", str(tmp_path))
    at_home = judge("~/run", "~/set", protocol=few)
    assert at_home.value == judge(run, folder, protocol=few).value
    assert len((run / "results" / "results.jsonl").read_text().splitlines()) == 3
    assert measure(run, folder).value == measure("~/run", Place(folder)).value


def test_a_result_that_cannot_be_filed_is_returned_with_a_word(
    run: Path, make_set: MakeSet, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "results").write_text("in the way")
    assert judge(run, make_set(), protocol=Knn(k=5)).judged == 30
    assert "note: the result was not filed in" in capsys.readouterr().err
    assert measure(run, make_set("other")).value > 0
    assert "note: the result was not filed in" in capsys.readouterr().err
    assert compare(run, run, make_set("third"), protocol=Knn(k=5)).exit_code == 3
    assert "note: the result was not filed in" in capsys.readouterr().err
    assert len(transfer(run, [make_set("fourth")], protocols=[Knn(k=5)]).results) == 1
    assert "note: the result was not filed in" in capsys.readouterr().err


def test_what_is_no_protocol_or_no_list_is_told_before_anything_is_computed(
    encoder: Pretrained, make_set: MakeSet
) -> None:
    folder = str(make_set())
    for wrong in ("knn", Knn):
        with pytest.raises(UserError, match=r"^protocol is .*; give one with its settings, such as byol.Knn"):
            judge(encoder, folder, protocol=wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"against is 'timm:resnet18' alone; give a list"):
        judge(encoder, folder, against="timm:resnet18")
    with pytest.raises(UserError, match=r"data is .* alone; give a list"):
        transfer(encoder, folder)
    with pytest.raises(UserError, match="protocols is empty"):
        transfer(encoder, [folder], protocols=[])


def test_a_transfer_tells_what_is_missing_before_the_first_set_is_judged(
    encoder: Pretrained, make_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byol.evaluate.judging.judge", lambda *_, **__: pytest.fail("judged already"))
    folder = make_set()
    with pytest.raises(UserError, match=r"no images at .*nowhere"):
        transfer(encoder, [folder, tmp_path / "nowhere"], protocols=[Knn()])
    with pytest.raises(UserError, match=r"no encoder at .*nowhere"):
        transfer(encoder, [folder], protocols=[Knn()], against=[tmp_path / "nowhere"])


@dataclass(frozen=True)
class Chooser(Knn):
    """A protocol of one's own that chooses NumPy numbers and paths."""

    def judge(self, encoder: Pretrained, task: Task, context: Context) -> Outcome:
        chosen = {"k": np.int64(self.k), "list": Path("few.txt"), "rates": np.array([0.5])}
        return replace(super().judge(encoder, task, context), chosen=[chosen])


def test_a_choice_that_json_does_not_know_does_not_lose_the_result(run: Path, make_set: MakeSet) -> None:
    assert judge(run, make_set(), protocol=Chooser(k=5)).rows[0].chosen[0]["k"] == 5
    filed = json.loads((run / "results" / "results.jsonl").read_text())
    assert filed["rows"][0]["chosen"] == [{"k": 5, "list": "few.txt", "rates": [0.5]}]


@dataclass(frozen=True, eq=False)
class Certainty:
    """A metric that the package does not know: how far the highest score is above the mean, at its median."""

    margins: np.ndarray
    name: str = "certainty"
    title: str = "certainty"
    per_image: None = None

    def of(self, indices: np.ndarray) -> float:
        return 100 * float(np.median(self.margins[indices]))


@dataclass(frozen=True)
class ByCertainty:
    """A task's scoring by that metric alone."""

    headline: str = "certainty"

    def metrics(self, scores: list[Scores], labels: Labels) -> tuple[Metric, ...]:
        shares = scores[0] / scores[0].sum(axis=1, keepdims=True)
        return (Certainty(np.asarray(shares.max(axis=1) - shares.mean(axis=1))),)

    def confusion(self, scores: Scores, labels: Labels) -> None:
        return


def test_a_metric_of_ones_own_is_judged_compared_and_shown(
    encoder: Pretrained, make_set: MakeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(data: Data, test: Data | None = None, *more: Any) -> Task:
        return replace(open_task(data, test, *more), scoring=ByCertainty())

    monkeypatch.setattr("byol.evaluate.judging.open_task", opened)
    found = compare(color(encoder), deaf(encoder), make_set(), protocol=Knn(k=5))
    assert found.difference.verdict == "better"
    assert 0 < found.low <= found.value <= found.high
    assert found.result.table()[0] == ["encoder", "certainty", "first is ahead by"]
    assert "knn certainty in % of 30 images" in found.sentence()
    assert found.result.to_json()["certainty"] == found.result.value
    same = compare(encoder, encoder, make_set("again"), protocol=Knn(k=5))
    assert (same.value, same.difference.p, same.exit_code) == (0.0, 1.0, 3)


def test_what_is_known_of_a_set_is_said_once_before_anything_is_judged(
    run: Path, make_set: MakeSet, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_set(train=10, test=0)
    (folder / "red" / "film.mov").touch()
    for verb in (judge, measure):
        verb(run, folder)
        said = capsys.readouterr()
        lines = said.err.splitlines()
        assert lines[:2] == ["note: 3 classes: blue, green, red.", "note: 1 file passed over: 1 .mov."]
        assert sum(line.startswith("note: 3 classes") for line in lines) == 1
        assert said.out == ""
