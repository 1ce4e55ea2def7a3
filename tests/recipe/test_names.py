import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from byol.algorithm import Online
from byol.answer import Answer
from byol.errors import UserError
from byol.model.encoder import ConvNet
from byol.model.head import Mlp, SimSiamProjector
from byol.model.predictor import SimSiamPredictor
from byol.model.target import Ema
from byol.optim import AdamW, Lars, Sgd
from byol.recipe.names import RECIPES, named, open_recipe, recipes
from byol.recipe.small import builtin
from byol.recipe.spec import Recipe, diff, from_json, read_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_json(name: str) -> None:
    recipe = named(name)
    again = from_json(json.dumps(recipe.to_json()), "test")
    assert again == recipe
    assert again.name == name


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds(name: str) -> None:
    recipe = named(name)
    with torch.device("meta"):
        encoder = recipe.encoder.build()
        dim = 2048 if "imagenet-" in name else 256 if "small" in name or name == "builtin" else 512
        online = Online(encoder, recipe.projector.build(dim), recipe.predictor.build(recipe.projector.out))
        branch = online(torch.zeros(2, 3, recipe.views.size, recipe.views.size))
        recipe.target.build(online)
    assert branch.representation.shape == (2, dim)
    assert branch.projection.shape == (2, recipe.projector.out)
    with torch.device("meta"):
        assert online.predictor(branch.projection).shape == branch.projection.shape
    assert isinstance(online, nn.Module)


@pytest.mark.parametrize(
    ("name", "epochs", "base_lr", "weight_decay", "tau_base"),
    [
        ("imagenet-40", 40, 0.45, 1e-6, 0.97),
        ("imagenet-100", 100, 0.45, 1e-6, 0.99),
        ("imagenet-300", 300, 0.3, 1e-6, 0.99),
        ("imagenet-1000", 1000, 0.2, 1.5e-6, 0.996),
        ("imagenet-small-batch", 1000, 0.4, 1.5e-6, 0.9995),
        ("imagenette", 1000, 2.0, 1e-6, 0.996),
    ],
)
def test_published_presets_carry_the_published_constants(
    name: str, epochs: int, base_lr: float, weight_decay: float, tau_base: float
) -> None:
    recipe = named(name)
    optimizer, target = recipe.optimizer, recipe.target
    assert (recipe.epochs, recipe.warmup_epochs) == (epochs, 10)
    assert (optimizer.kind, optimizer.base_lr, optimizer.weight_decay) == ("lars", base_lr, weight_decay)
    assert target.kind == "ema"
    assert target.tau_base == tau_base
    assert recipe.projector == recipe.predictor == Mlp(hidden=4096, out=256)
    assert (recipe.views.first.blur, recipe.views.second.blur) == (1.0, 0.1)
    assert (recipe.views.first.solarize, recipe.views.second.solarize) == (0.0, 0.2)


def test_the_learning_rate_scales_with_the_batch() -> None:
    assert named("imagenet-1000").peak_lr == pytest.approx(3.2)
    assert replace(named("imagenet-1000"), batch_size=256).peak_lr == 0.2


def test_an_unknown_name_is_answered_with_the_near_one() -> None:
    with pytest.raises(UserError, match="did you mean imagenette"):
        named("imagenete")


def test_diff_names_exactly_what_differs() -> None:
    left = builtin()
    assert diff(left, left) == []
    right = replace(left, seed=3, target=Ema(tau_base=0.5))
    assert {field for field, _, _ in diff(left, right)} == {"seed", "target.tau_base"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": "ten"}, "epochs"),
        ({"epoch": 10}, "epoch"),
        ({"target": {"kind": "emma"}}, "target"),
        ({"optimizer": {"kind": "sgd", "base_lr": "fast"}}, "base_lr"),
        ({"batch_size": 1}, "batch norm"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({**builtin().to_json(), **change}))
    with pytest.raises(UserError, match=message) as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)


def test_a_missing_recipe_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_recipe(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: replace(builtin(), seed=-1), r"seed is -1.*\[0, 2147483648\)"),
        (lambda: replace(builtin(), seed=2**31), "seed is 2147483648"),
        (lambda: replace(builtin(), epochs=0), "epochs is 0; use 1 or more"),
        (lambda: replace(builtin(), evaluation_size=0), "evaluation_size is 0; use 1 or more"),
        (lambda: ConvNet(widths=()), "number of encoder.widths is 0"),
        (lambda: ConvNet(widths=(8, 0)), "encoder.widths is 0"),
        (lambda: Mlp(hidden=0), "hidden of a head is 0"),
        (lambda: Mlp(out=0), "out of a head is 0"),
        (lambda: SimSiamProjector(layers=0), "projector.layers is 0"),
        (lambda: SimSiamPredictor(hidden=0), "predictor.hidden is 0"),
        (lambda: Lars(base_lr=-0.1), "optimizer.base_lr is -0.1; use 0 or more"),
        (lambda: Sgd(weight_decay=-1.0), "optimizer.weight_decay is -1.0"),
        (lambda: AdamW(base_lr=math.nan), "optimizer.base_lr is nan"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()


def test_a_batch_larger_than_the_set_names_both_numbers() -> None:
    recipe: Recipe = replace(builtin(), batch_size=64)
    assert recipe.steps(3, 130) == 6
    with pytest.raises(UserError, match=r"64.*40 images"):
        recipe.steps(1, 40)


def test_a_recipe_is_opened_by_itself_its_name_or_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    recipe = replace(builtin(), seed=3)
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(recipe.to_json()))
    assert open_recipe(recipe) is recipe
    assert open_recipe("photos") == named("photos")
    for path in (file, str(file), "~/mine.json"):
        assert open_recipe(path) == read_recipe(path) == recipe
    with pytest.raises(UserError, match="recipe is a int"):
        open_recipe(3)  # type: ignore[arg-type]


def test_the_list_answers_with_all_one_or_two() -> None:
    everything: Answer = recipes()
    assert [row[0] for row in everything.table()[1:]] == list(RECIPES)
    assert everything.to_json()["value"] == everything.value == len(RECIPES)
    one = recipes("builtin")
    assert from_json(json.dumps(one.to_json()["recipe"]), "test") == builtin()
    assert ["target.tau_base", "0.95"] in one.table()
    two = recipes("imagenet-300", "imagenet-100")
    assert two.table() == [
        ["field", "imagenet-300", "imagenet-100"],
        ["name", "imagenet-300", "imagenet-100"],
        ["optimizer.base_lr", "0.3", "0.45"],
        ["epochs", "300", "100"],
    ]
    assert two.to_json()["differences"]["epochs"] == [300, 100]
    assert (two.value, two.sentence()) == (3.0, "imagenet-300 and imagenet-100 differ in 3 fields.")
    with pytest.raises(UserError, match="did you mean builtin"):
        recipes("builtn")
    with pytest.raises(UserError, match="say what photos is to be compared with"):
        recipes(None, "photos")


def test_the_table_names_every_recipe_as_the_recipe_does() -> None:
    assert {name: make().name for name, make in RECIPES.items()} == {name: name for name in RECIPES}


def test_data_whose_name_is_not_text_survives_json() -> None:
    recipe = replace(builtin(), data="/pictures/caf\udce9 \U0001f600")
    assert from_json(json.dumps(recipe.to_json()), "test") == recipe
    with pytest.raises(UserError, match="epochs"):
        from_json(json.dumps({**recipe.to_json(), "epochs": "many"}), "test")


def test_a_file_that_is_no_text_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "photo.json").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(UserError, match="is no recipe: it is not a text in UTF-8"):
        read_recipe(tmp_path / "photo.json")
