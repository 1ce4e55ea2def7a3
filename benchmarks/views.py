"""The views: byol, lightly, torchvision v2 and kornia, alternating in one process, on one thread.

    peers/bin/python benchmarks/views.py --rounds 7

The environment is that of `benchmarks/peers.py` (`make bench-peers` builds it). Three comparisons, each from
the same random pixels in memory to two normalised views; every side draws parameters of its own per image:

- `32 px`: 256 images of 32 x 32 pixels. lightly's transform as its CIFAR-10 example has it, image by image
  (no blur, and none for byol).
- `224 px`: 16 decoded images of 200 x 300 pixels, cut out and distorted as in BYOL's paper. byol cuts out
  each image as its loader does. torchvision v2, image by image: a uint8 tensor, a float32 tensor from the
  crop on, and a Pillow image.
- `224 px, crops`: 32 ready crops of 224 x 224 pixels. kornia takes no images of several sizes, so both only
  distort. One order of its color jitter serves the whole batch; it has two kinds of jitter.

One JSON object on stdout: seconds are the median, lowest and highest of the rounds; a ratio is that of the
rounds' seconds, peer over byol.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray
from peers import spread
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from byol.data.image.augmentation import View
from byol.data.image.resample import crop_resize, crop_resize_view
from byol.data.image.views import TwoViews
from byol.lab.machine import machine
from byol.system.device import keep_freed_memory

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
JITTER = (0.4, 0.4, 0.2, 0.1)
CASES = {"first": (1.0, 0.0), "second": (0.1, 0.2)}  # probabilities of blur and of solarize
Pixels = NDArray[np.uint8]
Run = Callable[[int], object]  # of a round, in which others draw anew by themselves


def of_32(pixels: Pixels) -> dict[str, Run]:
    from lightly.transforms.byol_transform import BYOLTransform, BYOLView1Transform, BYOLView2Transform

    views = TwoViews(size=32, first=View(blur=0.0), second=View(blur=0.0, solarize=0.2))
    tensors, index = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), np.arange(len(pixels))
    sides = np.full(len(pixels), 32)
    images = [Image.fromarray(each) for each in pixels]
    transform = BYOLTransform(
        view_1_transform=BYOLView1Transform(input_size=32, gaussian_blur=0.0),
        view_2_transform=BYOLView2Transform(input_size=32, gaussian_blur=0.0),
    )

    def ours(step: int) -> object:
        boxes = views.boxes(0, step, index, sides, sides)
        return views.finish([crop_resize(tensors, box, 32) for box in boxes], 0, step, index)

    return {"byol": ours, "lightly": lambda _: [transform(image) for image in images]}


def of_224(pixels: Pixels) -> dict[str, Run]:
    views, index = TwoViews(), np.arange(len(pixels))
    heights, widths = (np.full(len(pixels), side) for side in pixels.shape[1:3])

    def ours(step: int) -> object:
        crops = []
        for boxes in views.boxes(0, step, index, heights, widths):
            cut = [
                crop_resize_view(image, box, 224) for image, box in zip(pixels, boxes.tolist(), strict=True)
            ]
            crops.append(torch.from_numpy(np.stack(cut)))
        return views.finish(crops, 0, step, index)

    def each(images: list[object], kind: str) -> Run:
        transforms = [torchvision_view(kind, *case) for case in CASES.values()]
        return lambda _: [[transform(image) for transform in transforms] for image in images]

    tensors: list[object] = [torch.from_numpy(image).permute(2, 0, 1).contiguous() for image in pixels]
    return {
        "byol": ours,
        "torchvision uint8": each(tensors, "uint8"),
        "torchvision float32": each(tensors, "float32"),
        "torchvision Pillow": each([Image.fromarray(image) for image in pixels], "Pillow"),
    }


def torchvision_view(kind: str, blur: float, solarize: float) -> v2.Compose:
    as_float = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    return v2.Compose(
        [
            v2.RandomResizedCrop(224, (0.08, 1.0), interpolation=InterpolationMode.BICUBIC, antialias=True),
            v2.RandomHorizontalFlip(),
            *(as_float if kind == "float32" else []),
            v2.RandomApply([v2.ColorJitter(*JITTER)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(23, (0.1, 2.0))], p=blur),
            v2.RandomSolarize(0.5 if kind == "float32" else 128, p=solarize),
            *([] if kind == "float32" else as_float),
            v2.Normalize(MEAN, STD),
        ]
    )


def of_crops(crops: Tensor) -> dict[str, Run]:
    import kornia.augmentation as K

    views, index = TwoViews(), np.arange(len(crops))

    def distorted_by(jitter: type) -> Run:
        transforms = [
            K.AugmentationSequential(
                K.RandomHorizontalFlip(p=0.5),
                jitter(*JITTER, p=0.8),
                K.RandomGrayscale(p=0.2),
                K.RandomGaussianBlur((23, 23), (0.1, 2.0), p=blur),
                K.RandomSolarize(0.0, 0.0, p=solarize),  # the threshold is 0.5 and this far from it
                K.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
                same_on_batch=False,
            )
            for blur, solarize in CASES.values()
        ]
        return lambda _: [transform(crops) for transform in transforms]

    return {
        "byol": lambda step: views.finish([crops, crops], 0, step, index),
        "kornia ColorJitter": distorted_by(K.ColorJitter),
        "kornia ColorJiggle": distorted_by(K.ColorJiggle),
    }


def alternate(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each in every round, after one to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run(number)
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def report(runs: dict[str, Run], images: int, rounds: int) -> dict[str, dict[str, object]]:
    seconds = alternate(runs, rounds)
    ratios = {
        name: [peer / ours for peer, ours in zip(each, seconds["byol"], strict=True)]
        for name, each in seconds.items()
    }
    return {
        name: {
            "seconds": spread(each),
            "images_per_second": images / statistics.median(each),
            "ratio": spread(ratios[name]),
        }
        for name, each in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (256, 32, 32, 3), np.uint8)
    natural = random.integers(0, 256, (16, 200, 300, 3), np.uint8)
    crops = torch.from_numpy(random.random((32, 3, 224, 224), np.float32))
    result = {
        "32 px": report(of_32(small), len(small), args.rounds),
        "224 px": report(of_224(natural), len(natural), args.rounds),
        "224 px, crops": report(of_crops(crops), len(crops), args.rounds),
        "versions": {name: version(name) for name in ("lightly", "torchvision", "kornia", "torch", "pillow")},
        "machine": machine(torch.device("cpu")),
        "rounds": args.rounds,
        "date": datetime.now(UTC).date().isoformat(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
