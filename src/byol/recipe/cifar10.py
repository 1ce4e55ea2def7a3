"""Recipes for CIFAR-10 at the scale of the papers; they want a GPU.

Numbers in a docstring say where they were measured; a recipe without any has not been run here.
"""

from dataclasses import replace

from byol.data.image.augmentation import View
from byol.data.image.views import TwoViews
from byol.model.encoder import ResNet
from byol.model.head import Mlp, SimSiamProjector
from byol.model.norm import GroupNorm
from byol.model.predictor import DirectPred, SimSiamPredictor
from byol.model.target import ConstantEma, Ema, Shared
from byol.optim import Lars, Sgd
from byol.recipe.spec import Recipe
from byol.schedule import ConstantRate

# Jitter, grayscale and solarization are the paper's; there is no blur, which at 32 px removes the object,
# and crops are of a fifth of the image or more. So do the CIFAR recipes of the public libraries.
CIFAR_VIEWS = TwoViews(
    size=32,
    first=View(area=(0.2, 1.0), blur=0.0),
    second=View(area=(0.2, 1.0), blur=0.0, solarize=0.2),
)


def cifar10() -> Recipe:
    """CIFAR-10 with the ResNet-18 of the literature (3x3 stem), 1000 epochs; wants a GPU. Not run here.

    Published with comparable settings: 92.58 % linear top-1 (solo-learn, 1000 epochs).
    """
    return Recipe(
        name="cifar10",
        data="",
        views=CIFAR_VIEWS,
        evaluation_size=32,
        encoder=ResNet(depth=18, stem="cifar"),
        projector=Mlp(hidden=4096, out=256),
        predictor=Mlp(hidden=4096, out=256),
        target=Ema(tau_base=0.99),
        optimizer=Lars(base_lr=2.0, weight_decay=1e-6),
        batch_size=256,
        epochs=1000,
        warmup_epochs=10,
    )


def cifar10_simsiam() -> Recipe:
    """SimSiam on CIFAR-10 as published: ResNet-18, two-layer projector, 800 epochs (2011.10566, appendix D).

    Published: 91.8 % linear top-1. Not run here.
    """
    view = replace(CIFAR_VIEWS.first, saturation=0.4)
    return replace(
        cifar10(),
        name="cifar10-simsiam",
        views=replace(CIFAR_VIEWS, first=view, second=view),
        projector=SimSiamProjector(layers=2, out=2048),
        predictor=SimSiamPredictor(hidden=512),
        target=Shared(),
        optimizer=Sgd(base_lr=0.03, weight_decay=5e-4, decay_all=True),
        batch_size=512,
        epochs=800,
        warmup_epochs=0,
        predictor_lr=ConstantRate(),
        loss_weight=0.25,
    )


def cifar10_directpred() -> Recipe:
    """DirectPred in the CIFAR-10 recipe, with its constant tau of 0.996. Not run here."""
    return replace(
        cifar10(),
        name="cifar10-directpred",
        predictor=DirectPred(),
        target=ConstantEma(value=0.996),
    )


def cifar10_gn_ws() -> Recipe:
    """The CIFAR-10 recipe without batch statistics. Not run here."""
    norm = GroupNorm()
    return replace(
        cifar10(),
        name="cifar10-gn-ws",
        encoder=ResNet(depth=18, stem="cifar", norm=norm),
        projector=Mlp(hidden=4096, out=256, norm=norm),
        predictor=Mlp(hidden=4096, out=256, norm=norm),
    )
