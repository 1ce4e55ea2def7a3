import pytest

from byol.answer import Answer
from byol.errors import UserError
from byol.lab.changes import put, put_in_views, put_norm
from byol.lab.tables import TABLES, TableList, open_table
from byol.model.norm import GroupNorm, NoNorm
from byol.model.predictor import DirectPred
from byol.recipe.names import named
from byol.recipe.small import builtin
from byol.recipe.spec import diff


@pytest.mark.parametrize("name", TABLES)
def test_every_cell_of_every_table_is_a_recipe_that_differs_where_it_says(name: str) -> None:
    table = TABLES[name]()
    assert table.name == name
    places = [(cell.row, cell.column) for cell in table.cells]
    assert len(set(places)) == len(places) == len(table.rows) * len(table.columns)
    for cell in table.cells:
        recipe = cell.change(named("imagenet-300"))
        assert recipe.name == "imagenet-300"  # equal cells of different tables are the same run
    recipes = [cell.change(named("imagenet-300")) for cell in table.cells]
    assert len(set(recipes)) >= len(recipes) - 1  # tau: the base recipe may have one of the constants
    for finding in table.findings:
        assert {finding.better, finding.worse} <= set(places)


def test_the_base_recipe_stands_in_the_first_table_with_its_published_figure() -> None:
    cell = next(c for c in TABLES["predictor-target"]().cells if (c.row, c.column) == ("MLP", "EMA"))
    assert cell.change(builtin()) == builtin()
    assert cell.published == 72.5


def test_put_changes_nothing_else() -> None:
    assert {field for field, _, _ in diff(builtin(), put(loss_weight=0.5)(builtin()))} == {"loss_weight"}
    changed = put_in_views(jitter=0.0)(builtin())
    assert {field for field, _, _ in diff(builtin(), changed)} == {
        "views.first.jitter",
        "views.second.jitter",
    }


def test_put_norm_reaches_encoder_and_heads_and_leaves_what_has_none() -> None:
    changed = put_norm(GroupNorm())(builtin())
    fields = {field for field, _, right in diff(builtin(), changed) if right == "group"}
    assert fields == {"encoder.norm.kind", "projector.norm.kind", "predictor.norm.kind"}
    direct = put_norm(NoNorm())(put(predictor=DirectPred())(builtin()))
    assert direct.predictor == DirectPred()


def test_a_table_is_opened_by_its_name_and_all_are_listed() -> None:
    assert open_table("tau").title == TABLES["tau"]().title
    with pytest.raises(UserError, match="did you mean predictor-target"):
        open_table("predictor-targets")
    answer: Answer = TableList()
    assert [row[0] for row in answer.table()[1:]] == list(TABLES)
    assert answer.to_json()["value"] == answer.value == len(TABLES)
    assert "byol ablate TABLE" in answer.sentence()
