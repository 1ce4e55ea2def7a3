"""Train the BYOL example of lightly on CIFAR-10 for a number of minutes and report its kNN accuracy.

The recipe is the one in lightly's documentation (lightly-ai/lightly, examples/pytorch/byol.py), run with
lightly's own transforms, heads, loss, momentum update and schedule: ResNet-18 of torchvision, heads of
1024 hidden and 256 output units, batches of 256, SGD at 0.06 without momentum, decay or schedule, and
the target's tau on a cosine from 0.996 to 1, one step per epoch. Where it differs:

- A wall-clock budget ends training, not 10 epochs. The cosine needs the number of epochs beforehand: it
  is the budget divided by the time per epoch seen over the first 50 steps, rounded up, at least 2
  (`epochs_planned` in the report; the first epoch has tau 0.996 whatever the number is).
- Pictures are decoded before the clock starts and held in memory, as torchvision's CIFAR10 class does;
  worker start-up and augmentation are inside the budget, both evaluations outside it.
- `--workers` is 2 unless told otherwise (the example: 8), and the device is the CPU.
- `--network small` swaps the backbone, and with it the projection head's input, for byol's ConvNet.

kNN: representations of the online backbone in eval mode, pictures / 255 normalised as lightly's transform
does; cosine, k = 20, votes weighted by exp(similarity / 0.07), every training picture against the test set.

The environment is one of its own, so that byol never depends on lightly:

    python -m venv peers
    peers/bin/pip install -e . -r benchmarks/requirements-peers.txt

Then, with an archive that holds NAME/{train,test}/CLASS/*.jpg of 32x32 pixels:

    peers/bin/python benchmarks/lightly_cifar10.py --data cifar10.tar.xz --minutes 20 --json

Progress goes to stderr, one JSON object to stdout. Accuracies are fractions; `epochs` is steps divided by
the steps of an epoch; `loss` is the mean over the last epoch's worth of steps; `cpu_seconds` is user and
system time of this process and its workers within the budget, `cpu_seconds_total` that of the whole run.
"""

import argparse
import copy
import io
import json
import math
import os
import random
import sys
import tarfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path, PurePosixPath

import numpy as np
import torch
import torchvision
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms.byol_transform import BYOLTransform, BYOLView1Transform, BYOLView2Transform
from lightly.transforms.utils import IMAGENET_NORMALIZE
from lightly.utils.scheduler import cosine_schedule
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

BATCH = 256
TIMED_STEPS = 50
Split = tuple[np.ndarray, np.ndarray]


class Pictures(Dataset[tuple[list[Tensor], int]]):
    """Decoded pictures (N, H, W, 3), each given to the transform as a PIL image."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: BYOLTransform) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[list[Tensor], int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def read_pictures(archive: Path, limit: int | None) -> tuple[Split, Split]:
    """Return the train and test split; of each at most `limit` pictures, spread over the classes."""
    files: dict[str, list[tuple[str, bytes]]] = {"train": [], "test": []}
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            parts = PurePosixPath(member.name).parts
            content = tar.extractfile(member)
            if len(parts) == 4 and parts[1] in files and content is not None:
                files[parts[1]].append((parts[2], content.read()))
    if not files["train"] or not files["test"]:
        raise SystemExit(f"{archive} has no pictures under NAME/train/CLASS/ and NAME/test/CLASS/.")
    classes = sorted({name for split in files.values() for name, _ in split})

    def decode(split: list[tuple[str, bytes]]) -> Split:
        rows = np.linspace(0, len(split) - 1, min(limit or len(split), len(split))).astype(int)
        split = [split[row] for row in rows]
        images = [np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for _, content in split]
        return np.stack(images), np.array([classes.index(name) for name, _ in split])

    return decode(files["train"]), decode(files["test"])


def example_network() -> nn.Module:
    network = torchvision.models.resnet18()
    network.fc = nn.Identity()
    return network


def small_network() -> nn.Module:
    from byol.model.encoder import ConvNet

    return ConvNet().build()


@torch.no_grad()
def representations(backbone: nn.Module, images: np.ndarray) -> Tensor:
    mean = torch.tensor(IMAGENET_NORMALIZE["mean"]).view(3, 1, 1)
    std = torch.tensor(IMAGENET_NORMALIZE["std"]).view(3, 1, 1)
    was_training = backbone.training
    backbone.eval()
    chunks = torch.from_numpy(images).permute(0, 3, 1, 2).split(500)
    output = torch.cat([backbone((chunk.float() / 255 - mean) / std).flatten(1) for chunk in chunks])
    backbone.train(was_training)
    return output


def knn_top1(backbone: nn.Module, train: Split, test: Split, k: int = 20, temperature: float = 0.07) -> float:
    bank = F.normalize(representations(backbone, train[0]), dim=1)
    queries = F.normalize(representations(backbone, test[0]), dim=1)
    labels, truth = torch.from_numpy(train[1]), torch.from_numpy(test[1])
    hits = 0
    for rows, wanted in zip(queries.split(500), truth.split(500), strict=True):
        similarity, index = (rows @ bank.T).topk(k, dim=1)
        votes = torch.zeros(len(rows), int(labels.max()) + 1)
        votes.scatter_add_(1, labels[index], (similarity / temperature).exp())
        hits += int((votes.argmax(dim=1) == wanted).sum())
    return round(hits / len(truth), 4)


def cpu_seconds() -> float:
    """User and system time so far of this process and of its children that have ended."""
    return sum(os.times()[:4])


def train(backbone: nn.Module, split: Split, minutes: float, workers: int) -> dict[str, float | int | None]:
    """Train `backbone` in place and return the figures of the run."""
    with torch.no_grad():
        dim = backbone.eval()(torch.zeros(2, 3, 32, 32)).flatten(1).shape[1]
    online = nn.Sequential(backbone, nn.Flatten(), BYOLProjectionHead(dim, 1024, 256)).train()
    predictor = BYOLPredictionHead(256, 1024, 256)
    target = copy.deepcopy(online)
    deactivate_requires_grad(target)
    criterion = NegativeCosineSimilarity()
    optimizer = torch.optim.SGD([*online.parameters(), *predictor.parameters()], lr=0.06)
    transform = BYOLTransform(
        view_1_transform=BYOLView1Transform(input_size=32, gaussian_blur=0.0),
        view_2_transform=BYOLView2Transform(input_size=32, gaussian_blur=0.0),
    )
    pictures = Pictures(*split, transform)
    loader = DataLoader(pictures, batch_size=BATCH, shuffle=True, drop_last=True, num_workers=workers)
    if len(loader) == 0:
        raise SystemExit(f"{len(pictures)} training pictures do not fill one batch of {BATCH}.")

    losses: list[float] = []
    planned: int | None = None
    epoch, elapsed, budget = 0, 0.0, minutes * 60
    cpu_before, start = cpu_seconds(), time.perf_counter()
    while elapsed < budget:
        tau = cosine_schedule(min(epoch, planned or 2), planned or 2, 0.996, 1)
        for views, _ in loader:
            update_momentum(online, target, m=tau)
            x0, x1 = views
            p0, z0 = predictor(online(x0)), target(x0).detach()
            p1, z1 = predictor(online(x1)), target(x1).detach()
            loss = 0.5 * (criterion(p0, z1) + criterion(p1, z0))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            elapsed = time.perf_counter() - start
            if planned is None and len(losses) == min(TIMED_STEPS, len(loader)):
                planned = max(2, math.ceil(budget / (elapsed / len(losses) * len(loader))))
                say(f"{elapsed:.1f} s for {len(losses)} steps: tau's cosine is planned over {planned} epochs")
            if elapsed >= budget:
                break
        epoch += 1
        last = losses[-len(loader) :]
        mean_loss = sum(last) / len(last)
        say(f"epoch {len(losses) / len(loader):.2f}, {elapsed:.0f} s, tau {tau:.5f}, loss {mean_loss:.5f}")
    return {
        "minutes": round(elapsed / 60, 3),
        "steps": len(losses),
        "epochs": round(len(losses) / len(loader), 3),
        "epochs_planned": planned,
        "images_per_second": round(len(losses) * BATCH / elapsed, 1),
        "loss": round(mean_loss, 5),
        "cpu_seconds": round(cpu_seconds() - cpu_before, 1),
    }


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", type=Path, required=True, metavar="ARCHIVE.tar.xz")
    parser.add_argument("--minutes", type=float, default=20, help="training budget (default: 20)")
    parser.add_argument("--network", choices=("example", "small"), default="example")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="loader processes (default: 2)")
    parser.add_argument("--limit", type=int, help="use so many pictures of each split, to try the script")
    parser.add_argument("--json", action="store_true", help="print the report on one line")
    args = parser.parse_args()
    if args.minutes <= 0:
        parser.error("--minutes must be positive")

    train_split, test_split = read_pictures(args.data, args.limit)
    say(f"{len(train_split[0])} training and {len(test_split[0])} test pictures in memory")
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    backbone = small_network() if args.network == "small" else example_network()
    knn_random = knn_top1(backbone, train_split, test_split)
    say(f"kNN of the random initialization: {knn_random}")
    run = train(backbone, train_split, args.minutes, args.workers)
    report = {
        "network": args.network,
        "seed": args.seed,
        **run,
        "knn_top1": knn_top1(backbone, train_split, test_split),
        "knn_top1_random": knn_random,
        "train_pictures": len(train_split[0]),
        "test_pictures": len(test_split[0]),
        "workers": args.workers,
        "cpu_seconds_total": round(cpu_seconds(), 1),
        "lightly": version("lightly"),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    print(json.dumps(report, indent=None if args.json else 2))


if __name__ == "__main__":
    main()
