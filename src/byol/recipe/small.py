"""Recipes for a CPU: the built-in set, photographs, and CIFAR-10 in minutes.

Numbers in a docstring say where they were measured; a recipe without any has not been run here.
"""

from dataclasses import replace

from byol.data.image.augmentation import View
from byol.data.image.views import TwoViews
from byol.model.encoder import ConvNet, ResNet
from byol.model.head import Mlp, SimSiamProjector
from byol.model.norm import GroupNorm
from byol.model.predictor import DirectPred, SimSiamPredictor
from byol.model.target import Ema, Shared
from byol.optim import AdamW, Sgd
from byol.recipe.cifar10 import CIFAR_VIEWS, cifar10
from byol.recipe.spec import Recipe
from byol.schedule import ConstantRate


def cifar10_small() -> Recipe:
    """CIFAR-10 in the quarter of an hour of one CPU core.

    `byol pretrain cifar10-small --data cifar10.tar.xz --out RUN`: kNN 61.0 +- 0.6 % (3 seeds; raw pixels
    48.5, random initialization 43.2), 11 to 16 minutes on one core with AVX-512 bf16, 2026-11-24.
    """
    return replace(
        cifar10(),
        name="cifar10-small",
        views=replace(CIFAR_VIEWS, size=24),
        encoder=ConvNet(widths=(64, 128, 256)),
        projector=Mlp(hidden=512, out=128),
        predictor=Mlp(hidden=512, out=128),
        target=Ema(tau_base=0.95),
        optimizer=AdamW(base_lr=4e-3, weight_decay=1e-3),
        batch_size=64,
        epochs=15,
        warmup_epochs=0.5,
    )


def cifar10_small_simsiam() -> Recipe:
    """SimSiam's slots in the small CIFAR-10 recipe: shared target, its projector and its predictor.

    8 epochs, five and a half minutes of one core: kNN 57.1 +- 0.7 % (3 seeds), BYOL in 6 epochs and five
    minutes 54.9 +- 0.3, 2026-11-24.
    """
    return replace(
        cifar10_small(),
        name="cifar10-small-simsiam",
        projector=SimSiamProjector(layers=2, out=128),
        predictor=SimSiamPredictor(hidden=64),
        target=Shared(),
        predictor_lr=ConstantRate(),
    )


def cifar10_small_directpred() -> Recipe:
    """DirectPred's slot in the small CIFAR-10 recipe.

    6 epochs, five minutes of one core: kNN 57.5 +- 0.05 % (3 seeds), BYOL 54.9 +- 0.3, 2026-11-24.
    """
    return replace(cifar10_small(), name="cifar10-small-directpred", predictor=DirectPred())


def cifar10_small_gn_ws() -> Recipe:
    """The small CIFAR-10 recipe without batch statistics.

    3 epochs, five minutes of one core: kNN 47.6 +- 0.8 % (3 seeds), below its random initialization's 48.6:
    half as fast as batch norm on a CPU, and not tuned. 2026-11-24.
    """
    norm = GroupNorm()
    return replace(
        cifar10_small(),
        name="cifar10-small-gn-ws",
        encoder=ConvNet(widths=(64, 128, 256), norm=norm),
        projector=Mlp(hidden=512, out=128, norm=norm),
        predictor=Mlp(hidden=512, out=128, norm=norm),
    )


def builtin() -> Recipe:
    """The built-in set, on a CPU core in about two minutes: what `make demo` runs.

    kNN 92.2 +- 1.5 % (3 seeds; raw pixels 38.6, random initialization 43.4), 2026-11-24.
    Its images differ in color by chance alone, so the views throw most of the color away.
    """
    view = View(area=(0.3, 1.0), saturation=0.8, hue=0.5, grayscale=0.5, blur=0.0)
    return replace(
        cifar10_small(),
        name="builtin",
        data="builtin",
        views=TwoViews(size=24, first=view, second=replace(view, solarize=0.2)),
        epochs=12,
    )


def photos() -> Recipe:
    """A folder of photographs on a CPU: torchvision's ResNet-18 at 64 px, with the paper's views."""
    return Recipe(
        name="photos",
        data="",
        views=TwoViews(size=64),
        evaluation_size=64,
        encoder=ResNet(depth=18),
        projector=Mlp(hidden=1024, out=128),
        predictor=Mlp(hidden=1024, out=128),
        target=Ema(tau_base=0.98),
        optimizer=Sgd(base_lr=0.2, weight_decay=1e-4),
        batch_size=64,
        epochs=50,
        warmup_epochs=2,
    )
