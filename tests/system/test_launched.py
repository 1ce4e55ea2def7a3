import pytest

from byol.errors import UserError
from byol.system.launched import Launch, launch, speaker

WHOLE = {
    "WORLD_SIZE": "4",
    "RANK": "3",
    "LOCAL_WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}


def test_what_torchrun_says_counts() -> None:
    assert launch(WHOLE) == speaker(WHOLE) == Launch(3, 4, 1, 2)


@pytest.mark.parametrize("empty", [None, "", " "])
@pytest.mark.parametrize("name", WHOLE)
def test_what_is_incomplete_counts_as_unset(name: str, empty: str | None) -> None:
    environment = {**WHOLE, name: empty or ""}
    if empty is None:
        del environment[name]
    assert launch(environment) == speaker(environment) == Launch()


@pytest.mark.parametrize(
    "left_over",
    [{}, {"LOCAL_RANK": "1"}, {"RANK": "7"}, {"WORLD_SIZE": "2"}, {"RANK": "x", "WORLD_SIZE": "1"}],
)
def test_what_is_left_over_silences_nobody(left_over: dict[str, str]) -> None:
    assert speaker(left_over) == launch(left_over) == Launch()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORLD_SIZE", "two"),
        ("WORLD_SIZE", "0"),
        ("WORLD_SIZE", "-1"),
        ("WORLD_SIZE", "2.0"),
        ("WORLD_SIZE", "²"),
        ("RANK", "first"),
        ("RANK", "4"),
        ("LOCAL_RANK", "2"),
        ("LOCAL_WORLD_SIZE", "5"),
    ],
)
def test_what_is_malformed_is_a_sentence_and_silences_nobody(name: str, value: str) -> None:
    environment = {**WHOLE, name: value}
    with pytest.raises(UserError, match=f"{name} is '?{value}.*start with torchrun, or unset WORLD_SIZE"):
        launch(environment)
    assert speaker(environment) == Launch()
