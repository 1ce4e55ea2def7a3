"""Bootstrap Your Own Latent: from unlabelled images to an encoder that is measurably better.

The names below are the public ones. Each is imported when it is first used, so that
`import byol` does no work.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what the table below says, for those who read types
    from byol.algorithm import Branch as Branch
    from byol.algorithm import Online as Online
    from byol.algorithm import bootstrap_loss as bootstrap_loss
    from byol.algorithm import bootstrap_step as bootstrap_step
    from byol.data.packing import Packed as Packed
    from byol.data.packing import pack as pack
    from byol.errors import Diverged as Diverged
    from byol.errors import Interrupted as Interrupted
    from byol.errors import UserError as UserError
    from byol.evaluate.judging import compare as compare
    from byol.evaluate.judging import judge as judge
    from byol.evaluate.judging import measure as measure
    from byol.evaluate.judging import transfer as transfer
    from byol.evaluate.measured import Measured as Measured
    from byol.evaluate.protocol.few_labels import FewLabels as FewLabels
    from byol.evaluate.protocol.finetune import FineTune as FineTune
    from byol.evaluate.protocol.knn import Knn as Knn
    from byol.evaluate.protocol.linear import LinearProbe as LinearProbe
    from byol.evaluate.protocol.linear_sgd import LinearSgd as LinearSgd
    from byol.evaluate.protocol.retrain import Retrain as Retrain
    from byol.evaluate.result import Comparison as Comparison
    from byol.evaluate.result import Result as Result
    from byol.evaluate.result import Transfer as Transfer
    from byol.lab.laboratory import Ablation as Ablation
    from byol.lab.laboratory import ablate as ablate
    from byol.lab.speed import Speed as Speed
    from byol.lab.speed import bench as bench
    from byol.model.maps import Stages as Stages
    from byol.model.maps import stages as stages
    from byol.module import Byol as Byol
    from byol.recipe.names import RecipeList as RecipeList
    from byol.recipe.names import named as named
    from byol.recipe.names import recipes as recipes
    from byol.recipe.spec import Recipe as Recipe
    from byol.recipe.spec import diff as diff
    from byol.recipe.spec import read_recipe as read_recipe
    from byol.training.planning import Plan as Plan
    from byol.training.planning import plan as plan
    from byol.training.result import Run as Run
    from byol.training.runs import extend as extend
    from byol.training.runs import pretrain as pretrain
    from byol.training.runs import resume as resume
    from byol.weights.formats import Exported as Exported
    from byol.weights.formats import export as export
    from byol.weights.official import Imported as Imported
    from byol.weights.official import import_official as import_official
    from byol.weights.pretrained import Pretrained as Pretrained
    from byol.weights.pretrained import load as load

_PUBLIC = {  # module -> its public names
    "algorithm": ("Branch", "Online", "bootstrap_loss", "bootstrap_step"),
    "data.packing": ("Packed", "pack"),
    "errors": ("Diverged", "Interrupted", "UserError"),
    "evaluate.judging": ("compare", "judge", "measure", "transfer"),
    "evaluate.measured": ("Measured",),
    "evaluate.protocol.few_labels": ("FewLabels",),
    "evaluate.protocol.finetune": ("FineTune",),
    "evaluate.protocol.knn": ("Knn",),
    "evaluate.protocol.linear": ("LinearProbe",),
    "evaluate.protocol.linear_sgd": ("LinearSgd",),
    "evaluate.protocol.retrain": ("Retrain",),
    "evaluate.result": ("Comparison", "Result", "Transfer"),
    "lab.laboratory": ("Ablation", "ablate"),
    "lab.speed": ("Speed", "bench"),
    "model.maps": ("Stages", "stages"),
    "module": ("Byol",),
    "recipe.names": ("RecipeList", "named", "recipes"),
    "recipe.spec": ("Recipe", "diff", "read_recipe"),
    "training.planning": ("Plan", "plan"),
    "training.result": ("Run",),
    "training.runs": ("extend", "pretrain", "resume"),
    "weights.formats": ("Exported", "export"),
    "weights.official": ("Imported", "import_official"),
    "weights.pretrained": ("Pretrained", "load"),
}
_HOME = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'byol' has no attribute '{name}'")
    value = getattr(import_module(f"byol.{_HOME[name]}"), name)
    globals()[name] = value  # from now on it is found without this function
    return value


def __dir__() -> list[str]:
    return __all__
