"""Bootstrap Your Own Latent: from unlabelled images to an encoder that is measurably better.

The names below are the public ones. Each is imported when it is first used, so that
`import byol` does no work.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from byol.algorithm import Branch, Online, bootstrap_loss, bootstrap_step
    from byol.data.packing import pack
    from byol.errors import Interrupted, UserError
    from byol.evaluate.judging import compare, judge, measure, transfer
    from byol.evaluate.measured import Measured
    from byol.evaluate.protocol.few_labels import FewLabels
    from byol.evaluate.protocol.finetune import FineTune
    from byol.evaluate.protocol.knn import Knn
    from byol.evaluate.protocol.linear import LinearProbe
    from byol.evaluate.protocol.linear_sgd import LinearSgd
    from byol.evaluate.protocol.retrain import Retrain
    from byol.evaluate.result import Comparison, Result, Transfer
    from byol.model.maps import Stages, stages
    from byol.module import Byol
    from byol.recipe.names import RECIPES, named
    from byol.recipe.spec import Recipe, diff, read_recipe
    from byol.training.loop import pretrain
    from byol.weights.pretrained import Pretrained, load

_HOME = {
    "Branch": "algorithm",
    "Online": "algorithm",
    "bootstrap_loss": "algorithm",
    "bootstrap_step": "algorithm",
    "Stages": "model.maps",
    "stages": "model.maps",
    "Byol": "module",
    "compare": "evaluate.judging",
    "judge": "evaluate.judging",
    "measure": "evaluate.judging",
    "transfer": "evaluate.judging",
    "FewLabels": "evaluate.protocol.few_labels",
    "FineTune": "evaluate.protocol.finetune",
    "Knn": "evaluate.protocol.knn",
    "LinearProbe": "evaluate.protocol.linear",
    "LinearSgd": "evaluate.protocol.linear_sgd",
    "Retrain": "evaluate.protocol.retrain",
    "Comparison": "evaluate.result",
    "Measured": "evaluate.measured",
    "Result": "evaluate.result",
    "Transfer": "evaluate.result",
    "pack": "data.packing",
    "pretrain": "training.loop",
    "Pretrained": "weights.pretrained",
    "load": "weights.pretrained",
    "Recipe": "recipe.spec",
    "diff": "recipe.spec",
    "read_recipe": "recipe.spec",
    "RECIPES": "recipe.names",
    "named": "recipe.names",
    "Interrupted": "errors",
    "UserError": "errors",
}

__all__ = [
    "RECIPES",
    "Branch",
    "Byol",
    "Comparison",
    "FewLabels",
    "FineTune",
    "Interrupted",
    "Knn",
    "LinearProbe",
    "LinearSgd",
    "Measured",
    "Online",
    "Pretrained",
    "Recipe",
    "Result",
    "Retrain",
    "Stages",
    "Transfer",
    "UserError",
    "bootstrap_loss",
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
    "stages",
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
