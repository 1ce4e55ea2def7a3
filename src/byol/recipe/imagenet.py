"""Recipes for ImageNet: BYOL as published, and its relatives at the scale of their papers.

Numbers in a docstring say where they were measured; a recipe without any has not been run here.
"""

from dataclasses import replace

from byol.data.image.augmentation import View
from byol.data.image.views import MultiCrop, TwoViews
from byol.model.encoder import ResNet
from byol.model.head import Mlp, SimSiamProjector
from byol.model.norm import GroupNorm
from byol.model.predictor import DirectCopy, DirectPred, OptimalLinear, SimSiamPredictor
from byol.model.target import Ema, Shared
from byol.optim import Lars, Sgd
from byol.recipe.spec import Recipe
from byol.schedule import ConstantRate, FollowingRate

# ---- BYOL as published ------------------------------------------------------------------------------


def imagenet_1000() -> Recipe:
    """The paper's main result: ResNet-50, 1000 epochs of ImageNet, batch 4096.

    Published: 74.3 % linear top-1 (BYOL, Table 1). Not run here.
    Source: official `configs/byol.py:21-64`.
    """
    return Recipe(
        name="imagenet-1000",
        data="",
        views=TwoViews(size=224),
        evaluation_size=224,
        encoder=ResNet(depth=50, padding="same"),
        projector=Mlp(hidden=4096, out=256),
        predictor=Mlp(hidden=4096, out=256),
        target=Ema(tau_base=0.996),
        optimizer=Lars(base_lr=0.2, weight_decay=1.5e-6),
        batch_size=4096,
        epochs=1000,
        warmup_epochs=10,
        initialization="truncated-normal",
    )


def imagenet_300() -> Recipe:
    """The official 300-epoch preset, base of the paper's ablations: 72.5 % published. Not run here."""
    return replace(
        imagenet_1000(),
        name="imagenet-300",
        target=Ema(tau_base=0.99),
        optimizer=Lars(base_lr=0.3, weight_decay=1e-6),
        epochs=300,
    )


def imagenet_100() -> Recipe:
    """The official 100-epoch preset. Not run here."""
    return replace(
        imagenet_300(),
        name="imagenet-100",
        optimizer=Lars(base_lr=0.45, weight_decay=1e-6),
        epochs=100,
    )


def imagenet_40() -> Recipe:
    """The official 40-epoch preset. Not run here."""
    return replace(imagenet_100(), name="imagenet-40", target=Ema(tau_base=0.97), epochs=40)


def imagenet_small_batch() -> Recipe:
    """The paper's batch 512 on 64 cores: 73.7 % published (appendix G). Not run here."""
    return replace(
        imagenet_1000(),
        name="imagenet-small-batch",
        target=Ema(tau_base=0.9995),
        optimizer=Lars(base_lr=0.4, weight_decay=1.5e-6),
        batch_size=512,
    )


def imagenette() -> Recipe:
    """The official recipe for fast iteration: ResNet-18, 128 px, 1000 epochs of Imagenette-160.

    Published: about 92.3 % online top-1 in about 4 hours on one V100 (official README). Not run here.
    """
    return replace(
        imagenet_1000(),
        name="imagenette",
        views=TwoViews(size=128),
        evaluation_size=128,
        encoder=ResNet(depth=18, padding="same", first_shortcut="projection"),
        optimizer=Lars(base_lr=2.0, weight_decay=1e-6),
        batch_size=256,
    )


# ---- Relatives, at the scale of their papers ---------------------------------------------------------


def imagenet_gn_ws() -> Recipe:
    """BYOL without batch statistics: group norm and weight standardization everywhere (2010.10241).

    Published: 73.9 % linear top-1, batch norm 74.3 %. Not run here.
    """
    return replace(
        imagenet_1000(),
        name="imagenet-gn-ws",
        encoder=ResNet(depth=50, padding="same", norm=GroupNorm()),
        projector=Mlp(hidden=4096, out=256, norm=GroupNorm()),
        predictor=Mlp(hidden=4096, out=256, norm=GroupNorm()),
    )


def imagenet_simsiam() -> Recipe:
    """SimSiam: no moving average, a bottleneck predictor with a constant learning rate (2011.10566).

    Published: 68.1 % linear top-1 after 100 epochs. Not run here. One thing differs from the published
    recipe: jitter is BYOL's (docs/algorithm.md), with SimSiam's ranges.
    Source: `simsiam/builder.py`, `main_simsiam.py`.
    """
    view = View(area=(0.2, 1.0), saturation=0.4, blur=0.5)
    return Recipe(
        name="imagenet-simsiam",
        data="",
        views=TwoViews(size=224, first=view, second=view),
        evaluation_size=224,
        encoder=ResNet(depth=50, zero_gamma=True),
        projector=SimSiamProjector(layers=3, out=2048),
        predictor=SimSiamPredictor(hidden=512),
        target=Shared(),
        optimizer=Sgd(base_lr=0.05, weight_decay=1e-4, decay_all=True),
        batch_size=512,
        epochs=100,
        warmup_epochs=0,
        predictor_lr=ConstantRate(),
        loss_weight=0.25,  # -(cos + cos) / 2 has a quarter of the gradient of 4 - 2 cos - 2 cos
    )


def imagenet_directpred() -> Recipe:
    """DirectPred: the predictor is set from the correlation of the projections, not learned (2102.06810).

    Published: 72.4 % linear top-1 with BYOL's 300 epochs, where the learned MLP has 72.5. Not run here.
    """
    return replace(imagenet_300(), name="imagenet-directpred", predictor=DirectPred())


def imagenet_directcopy() -> Recipe:
    """DirectCopy: DirectPred without the eigen-decomposition (2110.04947). Not run here."""
    return replace(imagenet_300(), name="imagenet-directcopy", predictor=DirectCopy())


def imagenet_two_timescale() -> Recipe:
    """No moving average, a predictor that learns ten times as fast. Not run here.

    Published: 66.6 % linear top-1 (BYOL, Table 21).
    """
    return replace(
        imagenet_300(),
        name="imagenet-two-timescale",
        target=Shared(),
        predictor_lr=FollowingRate(factor=10.0),
    )


def imagenet_optimal_predictor() -> Recipe:
    """No moving average, the predictor is the batch's least-squares solution. Not run here.

    Published: 52.5 % linear top-1 (BYOL, section 5).
    """
    return replace(
        imagenet_300(), name="imagenet-optimal-predictor", target=Shared(), predictor=OptimalLinear()
    )


def imagenet_multicrop() -> Recipe:
    """BYOL with four small crops more. Not in the paper; not run here.

    The small crops are SwAV's (2006.09882); they go through the online network alone.
    """
    return replace(
        imagenet_300(),
        name="imagenet-multicrop",
        views=MultiCrop(size=224, small_size=96, num_small=4),
    )
