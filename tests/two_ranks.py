"""What each of two processes does in tests/test_ranks.py: torchrun --nproc-per-node 2 two_ranks.py OUT."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import byol.learner
from byol.algorithm import bootstrap_step
from byol.learner import Learner, build
from byol.model.encoder import ConvNet
from byol.model.head import Mlp, SimSiamProjector
from byol.model.norm import synchronize
from byol.model.predictor import DirectPred, SimSiamPredictor
from byol.model.target import Shared
from byol.optim import Lars
from byol.recipe import Recipe
from byol.recipes import builtin
from byol.run import processes
from byol.run.device import Device, pick_device

STEPS, BATCH, SIDE = 5, 64, 12


def recipes() -> dict[str, Recipe]:
    small = replace(
        builtin(),
        encoder=ConvNet(widths=(8, 16)),
        projector=Mlp(hidden=32, out=8),
        predictor=Mlp(hidden=32, out=8),
        optimizer=Lars(base_lr=1.0),
        precision="float32",
    )
    return {
        "byol": small,
        "directpred": replace(small, predictor=DirectPred()),
        "simsiam": replace(
            small,
            projector=SimSiamProjector(layers=2, out=8),
            predictor=SimSiamPredictor(hidden=4),
            target=Shared(),
        ),
        "micro-batches": replace(small, micro_batches=2),
    }


def learn(recipe: Recipe, device: Device) -> tuple[Learner, list[Tensor]]:
    """Take some steps in float64 on this process's share of seeded views; return the losses of all."""
    learner = build(recipe, device, num_classes=3)
    for network in (learner.online, learner.target, learner.classifier):
        assert network is not None
        network.double()
    random, losses = torch.Generator().manual_seed(0), []
    share = BATCH // device.world_size
    mine = slice(device.rank * share, (device.rank + 1) * share)
    for step in range(STEPS):
        views = torch.randn(2, BATCH, 3, SIDE, SIDE, generator=random, dtype=torch.float64)
        labels = torch.randint(3, (BATCH,), generator=random)
        if recipe.micro_batches > 1:  # parts of a share, so the same images have to meet in one part
            order = torch.arange(BATCH).view(2, device.world_size, -1).transpose(0, 1).flatten()
            views, labels = views[:, order], labels[order]
        result = bootstrap_step(
            learner.online,
            learner.target,
            learner.optimizer,
            [view[mine] for view in views],
            lr=0.1 * (step + 1),
            tau=0.9,
            micro_batches=recipe.micro_batches,
        )
        assert learner.classifier is not None
        learner.classifier.step(result.branch.representation, labels[mine], 0.1)
        losses.append(processes.mean(result.loss))
    return learner, losses


def weights(learner: Learner) -> dict[str, Any]:
    assert learner.classifier is not None
    parts = {"online": learner.online, "target": learner.target, "classifier": learner.classifier}
    return {
        f"{name}.{key}": value
        for name, part in parts.items()
        for key, value in part.state_dict().items()
        if isinstance(value, Tensor)
    }


def norms() -> dict[str, nn.Module]:
    torch.manual_seed(1)
    layers = {
        "1d": nn.BatchNorm1d(3),
        "2d": nn.BatchNorm2d(3),
        "plain": nn.BatchNorm1d(3, affine=False),
        "cumulative": nn.BatchNorm2d(3, momentum=None),
    }
    for layer in layers.values():
        if layer.affine:
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    return {name: nn.Sequential(layer).double() for name, layer in layers.items()}


def normalise(network: nn.Module, name: str, mine: slice) -> dict[str, Tensor]:
    """Take two forward passes and a backward pass of 16 images, of which these are mine."""
    random = torch.Generator().manual_seed(2)
    shape = (2, 16, 3, 4, 4) if name in ("2d", "cumulative") else (2, 16, 3)
    x, weight = torch.randn(*shape, generator=random, dtype=torch.float64)
    x = 3 * x + 100
    network(x[mine])
    mine_x = x[mine].clone().requires_grad_()
    output = network(mine_x)
    (output * weight[mine]).sum().backward()
    gradients = {f"gradient of {key}": p.grad for key, p in network.named_parameters()}
    assert mine_x.grad is not None
    return {"output": output.detach(), "gradient": mine_x.grad, **network.state_dict(), **gradients}


def main(out: Path) -> None:
    device = pick_device("float32")
    found: dict[str, Any] = {}
    for name, recipe in recipes().items():
        learner, losses = learn(recipe, device)
        found[name] = {"losses": losses, **weights(learner)}
    for broken in ("synchronize", "average_gradients_before"):
        kept = getattr(byol.learner, broken)
        setattr(byol.learner, broken, lambda *_: None)
        learner, losses = learn(recipes()["byol"], device)
        found[f"without {broken}"] = {"losses": losses, **weights(learner)}
        setattr(byol.learner, broken, kept)
    for name, network in norms().items():
        synchronize(network)
        mine = (slice(0, 5), slice(5, 16))[device.rank]
        found[f"norm {name}"] = normalise(network, name, mine)
    found["rank and size"] = processes.rank_and_size()
    found["highest"] = processes.highest(device.rank, 5 - device.rank)
    found["union"] = processes.union([f"of {device.rank}", "of both"])
    torch.save(found, out / f"{device.rank}.pt")


if __name__ == "__main__":
    with processes.joined():
        main(Path(sys.argv[1]))
