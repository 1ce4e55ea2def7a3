from typing import Any

import numpy as np
import pytest
import torch

from byol.errors import UserError
from byol.model.norm import BatchNorm, GroupNorm, LayerNorm, NoNorm, standardize

LAYERS = [(GroupNorm().conv(3, 5, 3), (2, 3, 6, 6)), (GroupNorm().linear(12, 5), (2, 12))]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=["conv", "linear"])
def test_weights_are_standardized_as_the_formula_says(layer: Any, shape: tuple[int, ...]) -> None:
    rows = layer.weight.detach().double().numpy().reshape(5, -1)
    mean = rows.mean(axis=1, keepdims=True)
    sigma = np.sqrt(((rows - mean) ** 2).mean(axis=1, keepdims=True) + 1e-4)
    expected = ((rows - mean) / sigma).reshape(layer.weight.shape)
    # float32 against float64: a few roundings of numbers of size 1
    np.testing.assert_allclose(standardize(layer.weight).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=["conv", "linear"])
def test_a_layer_does_not_see_the_mean_or_size_of_its_filters(layer: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    images = torch.randn(*shape)
    with torch.no_grad():
        layer.weight.normal_()
        before = layer(images)
        layer.weight[1] += 3.0
        layer.weight[2] *= 7.0
        after = layer(images)
    # Of a variance of 1 the 1e-4 under the root is 5e-5 of sigma, and a 49th of that when scaled by 7.
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_a_filter_of_zeros_stays_zero() -> None:
    assert torch.equal(standardize(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_half_precision_weights_are_standardized_in_float32() -> None:
    assert standardize(torch.ones(2, 3, dtype=torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize("norm", [BatchNorm(), GroupNorm(), LayerNorm(), NoNorm()])
def test_every_norm_keeps_the_shape(norm: Any) -> None:
    assert norm.after_conv(32)(torch.randn(2, 32, 4, 4)).shape == (2, 32, 4, 4)
    assert norm.after_linear(32)(torch.randn(2, 32)).shape == (2, 32)


def test_layer_norm_is_over_one_image() -> None:
    rows = torch.randn(3, 8)
    expected = torch.nn.functional.layer_norm(rows, (8,))
    torch.testing.assert_close(LayerNorm().after_linear(8)(rows), expected)


def test_groups_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(UserError, match="groups is 16, which does not divide the 40 channels"):
        GroupNorm().after_conv(40)
    with pytest.raises(UserError, match="groups is 0; use 1 or more"):
        GroupNorm(groups=0)
