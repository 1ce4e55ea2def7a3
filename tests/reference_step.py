"""One training step of BYOL in NumPy and float64, forward and backward pass written out.

Written from the paper (2006.07733) and the official code, without torch and without a line of `byol`, to be
held against it (tests/test_reference.py) and to be read beside the paper. Whatever a copy may get wrong by
reading Algorithm 1 too quickly is one `Departure`; "none" is the published step.

Arrays are keyed by part, layer and name, as in "projector.0.weight". B images, D numbers of a
representation, P numbers of a projection.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float64]
Arrays = dict[str, Array]
Backward = Callable[[Array], Array]  # gradient with respect to the output, to that of the input

Departure = Literal[
    "none",
    "loss averaged over both directions",
    "target follows theta before its update",
    "target normalises by running statistics",
    "views go through together",
    "trust ratio before weight decay",
    "vectors decayed and adapted too",
    "Nesterov",
    "learning rate inside the momentum",
]

LAYERS = {
    "encoder": ("conv", "norm", "relu", "conv", "norm", "relu", "pool"),
    "projector": ("linear", "norm", "relu", "linear"),
    "predictor": ("linear", "norm", "relu", "linear"),
    "classifier": ("linear",),
}


@dataclass
class State:
    """All that a step changes.

    Args:
        theta: parameters of the online encoder, projector and predictor, and of the classifier.
        xi: parameters of the target's encoder and projector.
        theta_statistics: running mean and variance of the online network's batch norms.
        xi_statistics: the target's own.
        momentum: of the optimizer, one array for each of theta.
    """

    theta: Arrays
    xi: Arrays
    theta_statistics: Arrays
    xi_statistics: Arrays
    momentum: Arrays


def reference_step(
    state: State,
    views: tuple[Array, Array],
    labels: NDArray[np.int64],
    *,
    lr: float,
    tau: float,
    weight_decay: float,
    departure: Departure = "none",
) -> tuple[float, float]:
    """Take one step on two views (B, C, H, W) of the same images; change the state in place.

    Returns:
        The loss of the representation and that of the classifier, both before the step.

    Source: Algorithm 1 and appendix J of the paper; official `byol_experiment.py:178-346`.
    """
    images = len(labels)
    gradients: Arrays = {}

    # Each view has a forward pass, and batch statistics, of its own.
    batches = [np.concatenate(views)] if departure == "views go through together" else list(views)
    representations, predictions, targets, backwards = [], [], [], []
    for v in batches:
        y, through_encoder = forward("encoder", v, state.theta, state.theta_statistics, gradients)
        z, through_projector = forward("projector", y, state.theta, state.theta_statistics, gradients)
        q, through_predictor = forward("predictor", z, state.theta, state.theta_statistics, gradients)
        representations.append(y)
        predictions.append(q)
        backwards.append((through_predictor, through_projector, through_encoder))
        # The target's gradient is stopped: its backward functions are dropped.
        frozen = departure == "target normalises by running statistics"
        y_target, _ = forward("encoder", v, state.xi, state.xi_statistics, {}, frozen=frozen)
        z_target, _ = forward("projector", y_target, state.xi, state.xi_statistics, {}, frozen=frozen)
        targets.append(z_target)

    # Eq. 2, and the sum of both directions: the prediction of v meets the target of v', and the reverse.
    of_v, of_v_prime = np.split(np.concatenate(targets), 2)
    loss, d_prediction = regression(np.concatenate(predictions), np.concatenate([of_v_prime, of_v]), images)
    if departure == "loss averaged over both directions":
        loss, d_prediction = loss / 2, d_prediction / 2
    for d, path in zip(np.split(d_prediction, len(batches)), backwards, strict=True):
        for backward in path:
            d = backward(d)

    # The classifier sees the representation of view 1 as a constant: its gradient goes no further.
    scores, through_classifier = forward(
        "classifier", np.concatenate(representations)[:images], state.theta, {}, gradients
    )
    classifier_loss, d_scores = cross_entropy(scores, labels)
    through_classifier(d_scores)

    before = dict(state.theta)
    lars(state.theta, gradients, state.momentum, lr, weight_decay, departure)
    followed = before if departure == "target follows theta before its update" else state.theta
    for name in state.xi:  # parameters only: running statistics are the target's own
        state.xi[name] = state.xi[name] + (1 - tau) * (followed[name] - state.xi[name])
    return loss, classifier_loss


def regression(predictions: Array, targets: Array, images: int) -> tuple[float, Array]:
    """Return sum |q/|q| - z'/|z'||^2 / images over rows (2B, P), and its gradient in the predictions."""
    squares = (predictions**2).sum(axis=1, keepdims=True)
    scale = 1 / np.sqrt(np.maximum(squares, 1e-12))
    q, z = predictions * scale, targets / np.sqrt(np.maximum((targets**2).sum(1, keepdims=True), 1e-12))
    d_q = 2 * (q - z) / images
    along = (d_q * q).sum(axis=1, keepdims=True) * q  # lost by normalising, unless the bound holds the scale
    d_predictions = scale * (d_q - np.where(squares > 1e-12, along, 0.0))
    return float(((q - z) ** 2).sum() / images), d_predictions


def cross_entropy(scores: Array, labels: NDArray[np.int64]) -> tuple[float, Array]:
    """Return the mean of -log softmax(scores)[label] over rows (B, classes), and its gradient."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    log_shares = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    truth = np.eye(scores.shape[1])[labels]
    return float(-(truth * log_shares).sum() / len(labels)), (np.exp(log_shares) - truth) / len(labels)


def lars(
    weights: Arrays, gradients: Arrays, momentum: Arrays, lr: float, weight_decay: float, departure: Departure
) -> None:
    """Move the weights by LARS: eta 1e-3, heavy ball of 0.9; one-dimensional ones by the heavy ball alone.

    Source: official `utils/optimizers.py:30-35, 91-133`.
    """
    for name, p in weights.items():
        g = gradients[name]
        if p.ndim > 1 or departure == "vectors decayed and adapted too":
            raw = g
            g = g + weight_decay * p
            measured = raw if departure == "trust ratio before weight decay" else g
            p_norm, g_norm = np.sqrt((p**2).sum()), np.sqrt((measured**2).sum())
            g = g * (1e-3 * p_norm / g_norm if p_norm > 0 and g_norm > 0 else 1.0)
        if departure == "learning rate inside the momentum":
            momentum[name] = 0.9 * momentum[name] + lr * g
            weights[name] = p - momentum[name]
            continue
        momentum[name] = 0.9 * momentum[name] + g
        move = g + 0.9 * momentum[name] if departure == "Nesterov" else momentum[name]
        weights[name] = p - lr * move


def forward(
    part: str,
    x: Array,
    weights: Arrays,
    statistics: Arrays,
    gradients: Arrays,
    *,
    frozen: bool = False,
) -> tuple[Array, Backward]:
    """Send x through the layers of a part; return the output and the way back, which adds to `gradients`."""
    backwards: list[Backward] = []
    for i, kind in enumerate(LAYERS[part]):
        name = f"{part}.{i}"
        if kind == "norm":
            x, backward = norm(name, x, weights, statistics, gradients, frozen=frozen)
        else:
            x, backward = _LAYER[kind](name, x, weights, gradients)
        backwards.append(backward)

    def all_backward(d: Array) -> Array:
        for backward in reversed(backwards):
            d = backward(d)
        return d

    return x, all_backward


def norm(
    name: str, x: Array, weights: Arrays, statistics: Arrays, gradients: Arrays, *, frozen: bool
) -> tuple[Array, Backward]:
    """Normalise each channel of x (B, C, ...) by its mean and biased variance in this batch.

    The running statistics, which a step never reads, take a tenth of the batch's: the variance unbiased.
    """
    axes = (0, *range(2, x.ndim))
    count = x.size // x.shape[1]

    def spread(channels: Array) -> Array:
        return channels.reshape(1, -1, *[1] * (x.ndim - 2))

    mean_name, variance_name = f"{name}.running_mean", f"{name}.running_var"
    if frozen:
        mean, variance = statistics[mean_name], statistics[variance_name]
    else:
        mean, variance = x.mean(axis=axes), x.var(axis=axes)
        unbiased = variance * count / (count - 1)
        statistics[mean_name] = 0.9 * statistics[mean_name] + 0.1 * mean
        statistics[variance_name] = 0.9 * statistics[variance_name] + 0.1 * unbiased
    inverse = spread(1 / np.sqrt(variance + 1e-5))
    gamma, beta = spread(weights[f"{name}.weight"]), spread(weights[f"{name}.bias"])
    normal = (x - spread(mean)) * inverse

    def backward(d: Array) -> Array:
        _add(gradients, f"{name}.weight", (d * normal).sum(axis=axes))
        _add(gradients, f"{name}.bias", d.sum(axis=axes))
        d = d * gamma
        # Mean and variance depend on every x of the batch: what moves them alone is taken out.
        share, slope = d.mean(axis=axes), (d * normal).mean(axis=axes)
        return np.asarray(inverse * (d - spread(share) - normal * spread(slope)))

    return gamma * normal + beta, backward


def conv(name: str, x: Array, weights: Arrays, gradients: Arrays) -> tuple[Array, Backward]:
    """3x3, stride 1, one ring of zeros, no bias: (B, C, H, W) to (B, O, H, W), weight (O, C, 3, 3)."""
    w = weights[f"{name}.weight"]
    windows = _windows(x)

    def backward(d: Array) -> Array:
        _add(gradients, f"{name}.weight", np.einsum("bohw,bchwij->ocij", d, windows))
        return np.asarray(np.einsum("bohwij,ocij->bchw", _windows(d), w[:, :, ::-1, ::-1]))

    return np.asarray(np.einsum("bchwij,ocij->bohw", windows, w)), backward


def linear(name: str, x: Array, weights: Arrays, gradients: Arrays) -> tuple[Array, Backward]:
    """(B, C) to (B, O), weight (O, C); with a bias (O,) where there is one."""
    w, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")

    def backward(d: Array) -> Array:
        _add(gradients, f"{name}.weight", d.T @ x)
        if bias is not None:
            _add(gradients, f"{name}.bias", d.sum(axis=0))
        return d @ w

    return x @ w.T + (0.0 if bias is None else bias), backward


def relu(name: str, x: Array, weights: Arrays, gradients: Arrays) -> tuple[Array, Backward]:
    """What is negative becomes 0, and has no gradient."""
    return np.maximum(x, 0.0), lambda d: np.where(x > 0, d, 0.0)


def pool(name: str, x: Array, weights: Arrays, gradients: Arrays) -> tuple[Array, Backward]:
    """The mean of each channel over all places: (B, C, H, W) to (B, C)."""
    places = x.shape[2] * x.shape[3]
    return x.mean(axis=(2, 3)), lambda d: np.broadcast_to(d[:, :, None, None] / places, x.shape).copy()


_LAYER = {"conv": conv, "linear": linear, "relu": relu, "pool": pool}


def _windows(x: Array) -> Array:
    """Return the 3x3 neighbourhood (B, C, H, W, 3, 3) of each place, zeros beyond the border."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return np.asarray(sliding_window_view(padded, (3, 3), axis=(2, 3)))


def _add(gradients: Arrays, name: str, value: Array) -> None:
    gradients[name] = gradients[name] + value if name in gradients else value
