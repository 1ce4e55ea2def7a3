"""Named recipes: functions that return one. The difference between two of them is what they pass.

Figures in a docstring say where they were measured; a recipe without any has not been run here.
"""

import difflib
from collections.abc import Callable
from dataclasses import replace

from byol.data.views import TwoViews, View
from byol.model.encoder import ConvNet, ResNet
from byol.model.head import Mlp
from byol.model.target import Ema
from byol.optim import AdamW, Lars, Sgd
from byol.recipe import Recipe
from byol.run.errors import UserError


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
        encoder=ResNet(depth=50),
        projector=Mlp(hidden=4096, out=256),
        predictor=Mlp(hidden=4096, out=256),
        target=Ema(tau_base=0.996),
        optimizer=Lars(base_lr=0.2, weight_decay=1.5e-6),
        batch_size=4096,
        epochs=1000,
        warmup_epochs=10,
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
        encoder=ResNet(depth=18),
        optimizer=Lars(base_lr=2.0, weight_decay=1e-6),
        batch_size=256,
    )


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
        cifar10,
        imagenette,
        imagenet_40,
        imagenet_100,
        imagenet_300,
        imagenet_1000,
        imagenet_small_batch,
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
