from dataclasses import replace

import numpy as np
import torch
from tests.evaluate.conftest import MakeSet

from byol.evaluate.baselines import AgainstFeatures, AgainstRandom, at_random
from byol.evaluate.protocol.slot import Context
from byol.evaluate.task import open_task
from byol.system.device import Device
from byol.system.progress import Progress
from byol.weights.pretrained import Pretrained


def test_what_has_to_be_beaten_is_named_and_the_random_network_is_the_first(
    encoder: Pretrained, make_set: MakeSet, device: Device, quiet: Progress
) -> None:
    task, context = open_task(str(make_set())), Context(device, quiet, seed=0)
    names = [one.name for one in AgainstFeatures().baselines(encoder, task, context)]
    assert names == ["random initialization", "raw pixels", "histograms"]
    assert [one.name for one in AgainstRandom().baselines(encoder, task, context)] == names[:1]


def test_a_random_network_has_the_statistics_of_the_training_images_alone(
    encoder: Pretrained, make_set: MakeSet, device: Device, quiet: Progress
) -> None:
    task, context = open_task(str(make_set())), Context(device, quiet, seed=0)
    (random,) = AgainstRandom().baselines(encoder, replace(task, test=None), context)  # no image of test
    prepared, _ = encoder.preprocessing.read(task.train.images, task.train.index)
    first = random.encoder.get_submodule("layers.0")(prepared.to(device.device)).double().cpu()
    values = first.permute(1, 0, 2, 3).flatten(1)
    norm = random.encoder.get_submodule("layers.1")
    # float32 convolutions and moments: 1e-6 of the values, of which there are up to about 3.
    torch.testing.assert_close(norm.running_mean.double().cpu(), values.mean(dim=1), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        norm.running_var.double().cpu(), values.var(dim=1, correction=0), rtol=1e-4, atol=0
    )


def test_the_encoder_is_left_alone_and_the_draw_is_that_of_the_seed(
    encoder: Pretrained, make_set: MakeSet, device: Device, quiet: Progress
) -> None:
    task, context = open_task(str(make_set())), Context(device, quiet, seed=3)
    before = encoder.fingerprint()
    first, again = (at_random(encoder, task.train.images, context) for _ in range(2))
    assert encoder.fingerprint() == before
    assert first.fingerprint() == again.fingerprint()
    weights = encoder.fresh(3).encoder.state_dict()
    for name, value in first.encoder.state_dict().items():
        if "running" not in name:
            assert torch.equal(value.cpu(), weights[name]), name
    few = at_random(encoder, task.train.images, context, np.arange(20))
    assert few.fingerprint() != first.fingerprint()
