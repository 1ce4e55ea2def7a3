"""Named recipes: functions that return one. The difference between two of them is what they pass.

Figures in a docstring say where they were measured; a recipe without any has not been run here.
"""

import difflib
from collections.abc import Callable
from dataclasses import replace

from byol.data.image.augmentation import View
from byol.data.image.views import MultiCrop, TwoViews
from byol.errors import UserError
from byol.model.encoder import ConvNet, ResNet
from byol.model.head import Mlp, SimSiamProjector
from byol.model.norm import GroupNorm
from byol.model.predictor import DirectCopy, DirectPred, OptimalLinear, SimSiamPredictor
from byol.model.target import ConstantEma, Ema, Shared
from byol.optim import AdamW, Lars, Sgd
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
    """BYOL without batch statistics: group norm and weight standardisation everywhere (2010.10241).

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
    """DirectPred: the predictor is set from the correlation of the projections, not learnt (2102.06810).

    Published: 72.4 % linear top-1 with BYOL's 300 epochs, where the learnt MLP has 72.5. Not run here.
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


# ---- CIFAR-10, and what a CPU can do -----------------------------------------------------------------

# Jitter, grayscale and solarisation are the paper's; there is no blur, which at 32 px removes the object,
# and crops are of a fifth of the image or more. So do the CIFAR recipes of the public libraries.
_CIFAR_VIEWS = TwoViews(
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
        views=_CIFAR_VIEWS,
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


def cifar10_small() -> Recipe:
    """CIFAR-10 in the quarter of an hour of one CPU core.

    `byol pretrain cifar10-small --data cifar10.tar.xz --out RUN`: kNN 61.0 +- 0.6 % (3 seeds; raw pixels
    48.5, random initialisation 43.2), 11 to 16 minutes on one core with AVX-512 bf16, 2026-11-24.
    """
    return replace(
        cifar10(),
        name="cifar10-small",
        views=replace(_CIFAR_VIEWS, size=24),
        encoder=ConvNet(widths=(64, 128, 256)),
        projector=Mlp(hidden=512, out=128),
        predictor=Mlp(hidden=512, out=128),
        target=Ema(tau_base=0.95),
        optimizer=AdamW(base_lr=4e-3, weight_decay=1e-3),
        batch_size=64,
        epochs=15,
        warmup_epochs=0.5,
    )


def cifar10_simsiam() -> Recipe:
    """SimSiam on CIFAR-10 as published: ResNet-18, two-layer projector, 800 epochs (2011.10566, appendix D).

    Published: 91.8 % linear top-1. Not run here.
    """
    view = replace(_CIFAR_VIEWS.first, saturation=0.4)
    return replace(
        cifar10(),
        name="cifar10-simsiam",
        views=replace(_CIFAR_VIEWS, first=view, second=view),
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

    3 epochs, five minutes of one core: kNN 47.6 +- 0.8 % (3 seeds), below its random initialisation's 48.6:
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

    kNN 92.2 +- 1.5 % (3 seeds; raw pixels 38.6, random initialisation 43.4), 2026-11-24.
    Its images differ in colour by chance alone, so the views throw most of the colour away.
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


RECIPES: dict[str, Callable[[], Recipe]] = {
    make().name: make
    for make in (
        builtin,
        photos,
        cifar10_small,
        cifar10_small_simsiam,
        cifar10_small_directpred,
        cifar10_small_gn_ws,
        cifar10,
        cifar10_simsiam,
        cifar10_directpred,
        cifar10_gn_ws,
        imagenette,
        imagenet_40,
        imagenet_100,
        imagenet_300,
        imagenet_1000,
        imagenet_small_batch,
        imagenet_gn_ws,
        imagenet_simsiam,
        imagenet_directpred,
        imagenet_directcopy,
        imagenet_two_timescale,
        imagenet_optimal_predictor,
        imagenet_multicrop,
    )
}


def named(name: str) -> Recipe:
    """Return the recipe of a name.

    Raises:
        UserError: there is none; the nearest names are given.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=2, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(RECIPES)}."
        raise UserError(f"there is no recipe named '{name}'; {hint}")
    return RECIPES[name]()
