"""Help pages: one screen, a command that can be pasted, no word lost in the middle."""

import shlex

import pytest

from byol.cli import main
from byol.cli.command import Command
from byol.cli.pages import HEIGHT, WIDTH, one_line, overview, page, protocols
from byol.cli.parsing import _parsed, full_help
from byol.cli.verbs import EVALUATIONS, VERBS, Verb, find

COMMANDS = {name: verb for name, verb in VERBS.items() if name != "eval"} | {
    f"eval {name}": verb for name, verb in EVALUATIONS.items()
}


def assert_one_screen(text: str) -> None:
    lines = text.splitlines()
    assert len(lines) <= HEIGHT, text
    assert max(map(len, lines)) <= WIDTH, max(lines, key=len)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_one_screen_and_names_its_flags(name: str) -> None:
    text = page(Command(name, COMMANDS[name], []))
    assert_one_screen(text)
    assert text.startswith(f"usage: byol {name} ")
    assert "--json" in text
    assert "\n\n\n" not in text


def test_the_lists_fit_one_screen() -> None:
    assert_one_screen(overview())
    assert_one_screen(protocols())
    assert all(f"byol {name} " in overview() for name in VERBS)
    assert all(f"  {name} " in protocols() for name in EVALUATIONS)


@pytest.mark.parametrize("name", COMMANDS)
def test_all_help_names_every_flag_under_one_usage(name: str) -> None:
    command = Command(name, COMMANDS[name], [])
    text = full_help(command)
    flags = [one.flag for one in [*command.parameters, *command.fields]]
    assert [flag for flag in flags if flag not in text] == []
    assert text.startswith(f"usage: {command.usage}\n\n")
    assert text.count("usage:") == 1


def examples() -> list[tuple[str, Verb]]:
    return [(example, verb) for verb in COMMANDS.values() for example in verb.examples]


@pytest.mark.parametrize(
    ("example", "verb"), examples(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_examples_can_be_pasted(example: str, verb: Verb) -> None:
    program, *words = shlex.split(example.split("&&")[0], comments=True)
    assert program == "byol"
    if not {"--resume", "--from"} & set(words):  # which tests/test_remedies.py and test_agreement.py try
        name, found, rest = find(words)
        assert found is verb
        command = Command(name, found, rest)
        values = _parsed(command, command.flags)
        command.refuse_missing({**vars(values), **command.given})


def test_the_help_of_a_recipe_shows_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "cifar10", "--help"]) == 0
    assert "--epochs INT" in (said := capsys.readouterr().out)
    assert "[1000]" in said
    assert main(["compare", "--protocol", "linear", "--help"]) == 0
    assert "--strengths" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [
        ("as it is.", 10, "as it is"),
        ("seeds 0, 1, ...", 20, "seeds 0, 1, ..."),
        ("a value in [0, 2), or none at all", 20, "a value in [0, 2)"),
        ("one word after another", 14, "one word ..."),
        ("images (of any size, any kind); more", 17, "images"),
    ],
)
def test_long_help_ends_with_a_clause_or_with_dots(text: str, width: int, short: str) -> None:
    assert one_line(text, width) == short
