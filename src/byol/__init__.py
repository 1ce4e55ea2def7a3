"""Bootstrap Your Own Latent: from unlabelled images to an encoder that is measurably better.

The names below are the public ones. Each is imported when it is first used, so that
`import byol` does no work.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what the table below says, for those who read types
    from byol.algorithm import Branch as Branch
    from byol.algorithm import Online as Online
    from byol.algorithm import bootstrap_step as bootstrap_step
    from byol.errors import Interrupted as Interrupted
    from byol.errors import UserError as UserError
    from byol.evaluate.protocol import FewLabels as FewLabels
    from byol.evaluate.protocol import FineTune as FineTune
    from byol.evaluate.protocol import Knn as Knn
    from byol.evaluate.protocol import LinearSgd as LinearSgd
    from byol.evaluate.protocol import Retrain as Retrain
    from byol.evaluate.result import Comparison as Comparison
    from byol.evaluate.result import Measured as Measured
    from byol.evaluate.result import Result as Result
    from byol.evaluate.result import Transfer as Transfer
    from byol.interim import LinearProbe as LinearProbe
    from byol.interim import Run as Run
    from byol.interim import ablate as ablate
    from byol.interim import bench as bench
    from byol.interim import compare as compare
    from byol.interim import export as export
    from byol.interim import import_official as import_official
    from byol.interim import judge as judge
    from byol.interim import measure as measure
    from byol.interim import pack as pack
    from byol.interim import pretrain as pretrain
    from byol.interim import read_recipe as read_recipe
    from byol.interim import recipes as recipes
    from byol.interim import resume as resume
    from byol.interim import transfer as transfer
    from byol.recipe.names import RECIPES as RECIPES
    from byol.recipe.names import named as named
    from byol.recipe.spec import Recipe as Recipe
    from byol.recipe.spec import diff as diff
    from byol.weights.pretrained import Pretrained as Pretrained
    from byol.weights.pretrained import load as load

_PUBLIC = {  # module -> its public names
    "algorithm": ("Branch", "Online", "bootstrap_step"),
    "errors": ("Interrupted", "UserError"),
    "evaluate.protocol": ("FewLabels", "FineTune", "Knn", "LinearSgd", "Retrain"),
    "evaluate.result": ("Comparison", "Measured", "Result", "Transfer"),
    "interim": (
        *(
            "LinearProbe",
            "Run",
            "ablate",
            "bench",
            "compare",
            "export",
            "import_official",
            "judge",
            "measure",
        ),
        *("pack", "pretrain", "read_recipe", "recipes", "resume", "transfer"),
    ),
    "recipe.names": ("RECIPES", "named"),
    "recipe.spec": ("Recipe", "diff"),
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
