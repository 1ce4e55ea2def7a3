"""Bootstrap Your Own Latent: from unlabelled images to an encoder that is measurably better.

The names below are the public ones. Each is imported when it is first used, so that
`import byol` does no work.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from byol.algorithm import Branch, Online, bootstrap_step
    from byol.data.packing import pack
    from byol.errors import Interrupted, UserError
    from byol.evaluate.judging import compare, judge, measure, transfer
    from byol.evaluate.protocol import FewLabels, FineTune, Knn, Linear, LinearSgd, Retrain
    from byol.evaluate.result import Comparison, Measured, Result, Transfer
    from byol.recipe.names import RECIPES, named
    from byol.recipe.spec import Recipe, diff, read_recipe
    from byol.training.loop import pretrain
    from byol.weights.pretrained import Pretrained, load

_HOME = {
    "Branch": "algorithm",
    "Online": "algorithm",
    "bootstrap_step": "algorithm",
    "compare": "interim",
    "judge": "interim",
    "measure": "interim",
    "transfer": "interim",
    "resume": "interim", "bench": "interim", "ablate": "interim", "import_official": "interim", "export": "interim",
    "recipes": "interim", "Run": "interim", "LinearProbe": "interim",
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
    "pack": "interim",
    "pretrain": "interim",
    "Pretrained": "weights.pretrained",
    "load": "weights.pretrained",
    "Recipe": "recipe.spec",
    "diff": "recipe.spec",
    "read_recipe": "interim",
    "RECIPES": "recipe.names",
    "named": "recipe.names",
    "Interrupted": "errors",
    "UserError": "errors",
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
