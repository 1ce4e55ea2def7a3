"""The online classifier watches and does not touch; the predictor may learn at a rate of its own."""

import copy

import torch
from torch import Tensor, nn

from byol.algorithm import Online, bootstrap_step
from byol.model.head import Mlp
from byol.model.target import Ema
from byol.optim import Lars, Sgd
from byol.training.classifier import OnlineClassifier


def network() -> Online:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU())
    head = Mlp(hidden=16, out=8)
    return Online(encoder, head.build(16), head.build(8)).train()


def batch(step: int = 0) -> tuple[tuple[Tensor, Tensor], Tensor]:
    random = torch.Generator().manual_seed(step)
    first, second = torch.randn(2, 16, 6, generator=random)
    return (first, second), torch.randint(0, 3, (16,), generator=random)


def learn(online: Online, classifier: OnlineClassifier | None, steps: int = 5) -> list[float]:
    target, optimizer = Ema().build(online).train(), Lars().build(online)
    losses = []
    for step in range(steps):
        views, labels = batch(step)
        result = bootstrap_step(online, target, optimizer, views, 1.0, 0.9)
        losses.append(result.loss.item())
        if classifier is not None:
            classifier.step(result.branch.representation, labels, 1.0)
    return losses


def test_the_online_network_is_the_same_bit_for_bit_with_and_without() -> None:
    watched, alone = network(), network()
    assert learn(watched, OnlineClassifier(16, 3, Lars())) == learn(alone, None)
    for (name, a), b in zip(watched.state_dict().items(), alone.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_no_gradient_reaches_the_encoder() -> None:
    online, (views, labels) = network(), batch()
    classifier = OnlineClassifier(16, 3, Lars())
    representation = online(views[0]).representation
    assert representation.requires_grad
    classifier.step(representation, labels, 1.0)
    assert all(p.grad is None for p in online.parameters())
    assert all(p.grad is not None for p in classifier.parameters())


def test_it_learns_the_labels() -> None:
    torch.manual_seed(0)
    classifier = OnlineClassifier(8, 3, Sgd())
    labels = torch.arange(30) % 3
    representation = torch.eye(8)[labels]
    losses = [classifier.step(representation, labels, 0.5).item() for _ in range(50)]
    assert losses[-1] < 0.1 * losses[0]
    assert (classifier(representation).argmax(dim=1) == labels).all()


def test_half_precision_representations_are_scored_in_float32() -> None:
    classifier = OnlineClassifier(8, 3, Lars())
    assert classifier(torch.randn(2, 8, dtype=torch.bfloat16)).dtype == torch.float32


def test_a_restored_classifier_goes_on_bit_for_bit() -> None:
    classifier, other = OnlineClassifier(16, 3, Lars()), OnlineClassifier(16, 3, Lars())
    representations = torch.randn(6, 16, 16, generator=torch.Generator().manual_seed(1))
    labels = batch()[1]
    for representation in representations[:3]:
        classifier.step(representation, labels, 1.0)
    other.restore(copy.deepcopy(classifier.state()))
    for representation in representations[3:]:
        loss, same = (c.step(representation, labels, 1.0) for c in (classifier, other))
        assert torch.equal(loss, same)
    for a, b in zip(classifier.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        momenta = [c.optimizer.state[p]["momentum"] for c, p in ((classifier, a), (other, b))]
        assert torch.equal(*momenta)


def test_the_predictors_rate_moves_the_predictor_alone_and_in_proportion() -> None:
    plain = Sgd(momentum=0.0, weight_decay=0.0)
    views, _ = batch()
    moves = []
    for predictor_lr in (None, 1.0):
        online = network().double()
        before = {name: p.detach().clone() for name, p in online.named_parameters()}
        bootstrap_step(
            online,
            Ema().build(online).train(),
            plain.build(online),
            [view.double() for view in views],
            0.1,
            0.9,
            predictor_lr=predictor_lr,
        )
        moves.append({name: p.detach() - before[name] for name, p in online.named_parameters()})
    one_rate, two_rates = moves
    for name, move in one_rate.items():
        if name.startswith("predictor."):
            # Differences of float64 weights of order 1 that moved by about 1e-2: rounding of 1e-16 in each.
            torch.testing.assert_close(two_rates[name], 10 * move, rtol=0, atol=1e-14)
            if not name.endswith("0.bias"):  # a bias before a batch norm has no gradient
                assert move.abs().max() > 1e-4, name
        else:
            assert torch.equal(two_rates[name], move), name
