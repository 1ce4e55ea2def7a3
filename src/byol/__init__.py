"""Bootstrap Your Own Latent: from unlabelled images to an encoder that is measurably better.

The names below are the public ones. Each is imported when it is first used, so that
`import byol` does no work.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from byol.algorithm import Branch, Online, bootstrap_step
    from byol.data.pack import pack
    from byol.evaluate.judge import compare, judge, measure, transfer
    from byol.evaluate.protocol import FewLabels, FineTune, Knn, Linear, LinearSgd, Retrain
    from byol.evaluate.result import Comparison, Measured, Result, Transfer
    from byol.pretrain import pretrain
    from byol.pretrained import Pretrained, load
    from byol.recipe import Recipe, diff, read_recipe
    from byol.recipes import RECIPES, named
    from byol.run.errors import Interrupted, UserError

_HOME = {
    "Branch": "algorithm",
    "Online": "algorithm",
    "bootstrap_step": "algorithm",
    "compare": "evaluate.judge",
    "judge": "evaluate.judge",
    "measure": "evaluate.judge",
    "transfer": "evaluate.judge",
    "FewLabels": "evaluate.protocol",
    "FineTune": "evaluate.protocol",
    "Knn": "evaluate.protocol",
    "Linear": "evaluate.protocol",
    "LinearSgd": "evaluate.protocol",
    "Retrain": "evaluate.protocol",
    "Comparison": "evaluate.result",
    "Measured": "evaluate.result",
    "Result": "evaluate.result",
    "Transfer": "evaluate.result",
    "pack": "data.pack",
    "pretrain": "pretrain",
    "Pretrained": "pretrained",
    "load": "pretrained",
    "Recipe": "recipe",
    "diff": "recipe",
    "read_recipe": "recipe",
    "RECIPES": "recipes",
    "named": "recipes",
    "Interrupted": "run.errors",
    "UserError": "run.errors",
}

__all__ = [
    "RECIPES",
    "Branch",
    "Comparison",
    "FewLabels",
    "FineTune",
    "Interrupted",
    "Knn",
    "Linear",
    "LinearSgd",
    "Measured",
    "Online",
    "Pretrained",
    "Recipe",
    "Result",
    "Retrain",
    "Transfer",
    "UserError",
    "bootstrap_step",
    "compare",
    "diff",
    "judge",
    "load",
    "measure",
    "named",
    "pack",
    "pretrain",
    "read_recipe",
    "transfer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'byol' has no attribute '{name}'")
    value = getattr(import_module(f"byol.{_HOME[name]}"), name)
    globals()[name] = value  # to import byol/pretrain.py has put the module in the function's place
    return value


def __dir__() -> list[str]:
    return __all__
