"""The verbs are the public functions: the same names, options, defaults and help, and the same answers."""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import byol
from byol.answer import Answer
from byol.cli import main
from byol.cli.command import Command
from byol.cli.signature import REQUIRED, arguments
from byol.cli.verbs import EVALUATIONS, VERBS

pytestmark = pytest.mark.usefixtures("two_cells")
COMMANDS = {name: verb for name, verb in VERBS.items() if name != "eval"} | {
    f"eval {name}": verb for name, verb in EVALUATIONS.items()
}
# A module cannot be written in a shell.
PYTHON_ONLY = {name: {"encoder"} for name in ("pretrain", "plan", "extend", "resume")}
SLOTS = [name for name in vars(Answer) if not name.startswith("_")]


def answering() -> dict[str, type]:
    """Return the public functions that return an answer, with its class."""
    functions = {name: getattr(byol, name) for name in byol.__all__}
    returned = {
        name: get_type_hints(function).get("return")
        for name, function in functions.items()
        if inspect.isfunction(function)
    }
    return {
        name: kind
        for name, kind in returned.items()
        if isinstance(kind, type) and all(hasattr(kind, slot) for slot in SLOTS)
    }


def test_the_verbs_are_the_public_functions() -> None:
    assert len(SLOTS) == 4
    assert {verb.function for verb in COMMANDS.values()} == set(answering())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_parameter_is_a_word_or_a_flag_with_its_default_and_its_help(name: str) -> None:
    command = Command(name, COMMANDS[name], [])
    told = arguments(command.function)
    there = dict(inspect.signature(command.function).parameters)
    for python_only in PYTHON_ONLY.get(name, ()):
        there.pop(python_only)
    flags = {one.name: one for one in command.parameters if one.name != "json"}
    start = {command.verb.start} - {None}
    assert set(there) == set(command.verb.words) | set(flags) | start
    assert start <= set(there)
    for one in [*command.words, *flags.values()]:
        assert one.help == told[one.name], one.name
        assert one.help, one.name
        if one.name != "protocol":  # given by its name
            assert one.default == there[one.name].default, one.name


@pytest.mark.parametrize("name", sorted({verb.function for verb in COMMANDS.values()}))
def test_what_has_a_default_is_given_by_its_name(name: str) -> None:
    function = getattr(byol, name)
    for one in inspect.signature(function).parameters.values():
        is_keyword = one.kind is inspect.Parameter.KEYWORD_ONLY
        assert is_keyword == (one.default is not REQUIRED) or name in ("bench", "recipes"), one.name


@pytest.mark.parametrize("name", COMMANDS)
def test_the_fields_of_recipes_and_protocols_are_flags_with_help(name: str) -> None:
    command = Command(name, COMMANDS[name], [])
    assert bool(command.fields) == (command.verb.start is not None)
    assert [one.flag for one in command.fields if not one.help and not one.name.endswith("kind")] == []


KNN, LINEAR = byol.Knn(k=3, temperature=0.1), byol.LinearProbe(strengths=(1.0, 0.1))
FINETUNE = byol.FineTune(epochs=1, at_least=1, lrs=(0.1,))
CASES: dict[str, tuple[str, Callable[[Path, Path], Any]]] = {
    "pretrain": (
        "pretrain {made}/recipe.json --data {made}/images --out {new} --workers 0",
        lambda made, new: byol.pretrain(made / "images", new, recipe=made / "recipe.json", workers=0),
    ),
    "plan": (
        "plan --data {made}/images --fit-in 60s --workers 0",
        lambda made, new: byol.plan(made / "images", fit_in="60s", workers=0),
    ),
    "extend": (
        "extend {made}/run --epochs 3 --out {new} --workers 0",
        lambda made, new: byol.extend(made / "run", 3, new, workers=0),
    ),
    "resume": ("resume {made}/run", lambda made, new: byol.resume(made / "run")),
    "eval knn": (
        "eval knn {made}/run --data {made}/images --k 3 --temperature 0.1 --seed 3",
        lambda made, new: byol.judge(made / "run", made / "images", protocol=KNN, seed=3),
    ),
    "eval linear": (
        "eval linear {made}/run --data {made}/images --strengths 1 0.1",
        lambda made, new: byol.judge(made / "run", made / "images", protocol=LINEAR),
    ),
    "eval linear-paper": (
        "eval linear-paper {made}/run --data {made}/images --epochs 1 --lrs 0.1",
        lambda made, new: byol.judge(
            made / "run", made / "images", protocol=byol.LinearSgd(epochs=1, lrs=(0.1,))
        ),
    ),
    "eval finetune": (
        "eval finetune {made}/run --data {made}/images --epochs 1 --at-least 1 --lrs 0.1",
        lambda made, new: byol.judge(made / "run", made / "images", protocol=FINETUNE),
    ),
    "eval transfer": (
        "eval transfer {made}/run --data {made}/images --linear.strengths 1 0.1 "
        "--finetune.epochs 1 --finetune.at-least 1 --finetune.lrs 0.1",
        lambda made, new: byol.transfer(made / "run", [made / "images"], protocols=(LINEAR, FINETUNE)),
    ),
    "eval unlabelled": (
        "eval unlabelled {made}/run --data {made}/images",
        lambda made, new: byol.measure(made / "run", made / "images"),
    ),
    "compare": (
        "compare {made}/run {made}/run/encoder.safetensors --data {made}/images --k 3 --temperature 0.1",
        lambda made, new: byol.compare(
            made / "run", made / "run" / "encoder.safetensors", made / "images", protocol=KNN
        ),
    ),
    "recipes": ("recipes cifar10 imagenette", lambda made, new: byol.recipes("cifar10", "imagenette")),
    "ablate": (
        "ablate two --out {made}/tables --recipe {made}/recipe.json --data {made}/images "
        "--seeds 1 --budget 1",
        lambda made, new: byol.ablate(
            "two", made / "tables", recipe=made / "recipe.json", data=made / "images", seeds=1, budget=1
        ),
    ),
    "bench": (
        "bench {made}/recipe.json --rounds 1",
        lambda made, new: byol.bench(made / "recipe.json", rounds=1),
    ),
    "pack": (
        "pack {made}/images --out {new} --short-side 4 --raw",
        lambda made, new: byol.pack(made / "images", new, short_side=4, raw=True),
    ),
    "import": (
        "import {made}/official.pkl --out {new}",
        lambda made, new: byol.import_official(made / "official.pkl", new),
    ),
    "export": (
        "export {made}/run --out {new}.pth",
        lambda made, new: byol.export(made / "run", f"{new}.pth"),
    ),
}
MEASURED = {  # on the clock or of the machine, and so never twice the same
    *(
        "seconds",
        "wall_seconds",
        "images_per_second",
        "date",
        "provenance",
        "machine",
        "median",
        "low",
        "high",
    ),
    *("value", "fraction_of_limit", "peak_bytes", "seconds_per_step", "epochs", "warmup_epochs", "why"),
}


def lasting(found: Any, new: Path, *, is_timed: bool) -> Any:
    """Return an answer without what is measured on the clock, and with the new path replaced."""
    if isinstance(found, dict):
        return {
            key: lasting(value, new, is_timed=is_timed)
            for key, value in found.items()
            if not (key in MEASURED and (is_timed or key not in ("value", "low", "high", "median")))
            and not key.endswith("images_per_second")
        }
    if isinstance(found, list):
        return [lasting(value, new, is_timed=is_timed) for value in found]
    return found.replace(str(new), "NEW") if isinstance(found, str) else found


def test_every_verb_is_called_in_both_ways() -> None:
    few = {"eval fewlabel-linear", "eval fewlabel-finetune"}  # judge with a protocol like the others
    assert set(CASES) == set(COMMANDS) - few


@pytest.mark.parametrize("name", CASES)
def test_the_same_call_gives_the_same_answer(
    name: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, call = CASES[name]
    code = main([*words.format(made=made, new=tmp_path / "shell").split(), "--json"])
    shell = json.loads(capsys.readouterr().out)
    answer = call(made, tmp_path / "python")
    assert code == getattr(answer, "exit_code", 0)
    python = json.loads(json.dumps(answer.to_json()))
    is_timed = name in ("bench", "plan")
    assert lasting(shell, tmp_path / "shell", is_timed=is_timed) == lasting(
        python, tmp_path / "python", is_timed=is_timed
    )
    assert "value" in shell
    assert answer.value is None or answer.value == python["value"]
    header, *rows = answer.table()
    assert all(len(row) == len(header) for row in rows)
    assert "\n" not in answer.sentence()
    assert answer.sentence()
