"""Is a file that was cut short, or in which one bit has turned, ever used in silence?

    python benchmarks/reliability/damage.py --count 800 --out docs/reliability/damage.json

Half of the cases cut a file short, half turn one bit of it: the encoder of a run, its newest checkpoint and
its recipe, a pack of JPEGs and one of pixels, and the caches of the index, of decoded images and of features.
The file is then used as a person would: the encoder is loaded and looks at a picture, the run is resumed, the
pack is read, the set is opened, the run is judged. It has to be refused in a sentence, or to give the numbers
that the whole file gives. What people read and edit (metrics, summary) has no digest and is no part of this.
"""

import hashlib
import io
import os
import shutil
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable
from contextlib import redirect_stderr, suppress
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from harness import Tally, in_children, numbers, options, random_of, tiny_recipe, write_pictures

import byol
from byol.data.identity import Identity
from byol.data.image.kinds import UndecodableImage
from byol.data.opening import open_data
from byol.errors import Interrupted, UserError
from byol.run import checkpoint
from byol.training.learner import Learner
from byol.training.request import Request
from byol.training.run_files import save

STOPPED_AT = 4  # step of the run that is resumed


def images_of(place: Path) -> str:
    """Return a digest of all images of a set."""
    found = hashlib.sha256()
    for split, images in open_data(place).items():
        found.update(split.encode())
        for i in range(len(images)):
            found.update(images.name(i).encode() + images.read(i).tobytes())
        found.update(b"" if images.labels is None else images.labels.tobytes())
    return found.hexdigest()


def encoded(room: Path) -> str:
    """Return what the encoder of the finished run makes of a picture."""
    picture = np.arange(3 * 20 * 20, dtype=np.uint8).reshape(20, 20, 3)
    return hashlib.sha256(byol.load(room / "run").embed(picture).numpy().tobytes()).hexdigest()


def resumed(room: Path) -> str:
    """Return the encoder of the run that was stopped, once it has been resumed."""
    run = byol.resume(room / "stopped", workers=0)
    weights = run.load().encoder.state_dict().values()
    return hashlib.sha256(b"".join(weight.numpy().tobytes() for weight in weights)).hexdigest()


def judged(room: Path) -> str:
    """Return how well the finished run does, image by image."""
    result = byol.judge(room / "run", room / "set", protocol=byol.Knn(k=3))
    return repr([row.metrics for row in result.rows])


def opened(name: str) -> Callable[[Path], str]:
    """Return what reads all images of a set of this name."""
    return lambda room: images_of(room / name)


KINDS: dict[str, tuple[str, Callable[[Path], str]]] = {  # file, and what uses it
    "encoder": ("run/encoder.safetensors", encoded),
    "checkpoint": (f"stopped/checkpoints/step-{STOPPED_AT:09d}.pt", resumed),
    "recipe": ("stopped/recipe.json", resumed),
    "pack": ("jpeg.pack", opened("jpeg.pack")),
    "pack of pixels": ("pixels.pack", opened("pixels.pack")),
    "index": ("cache/indices/*", opened("set")),
    "decoded images": ("cache/packed/*.images", opened("set")),
    "features": ("cache/features/*.npy", judged),
}


def prepare(room: Path) -> dict[str, str]:
    """Make all of the files, and return what each kind gives as long as its file is whole."""
    pictures = write_pictures(room / "set", 40, sizes=(20, 20), suffix=".png")
    for path in [room / "set", *(room / "set").rglob("*")]:
        os.utime(path, (10**9, 10**9))  # long ago, so that the index of the folder is kept
    byol.pack(pictures, room / "jpeg.pack")
    byol.pack(pictures, room / "pixels.pack", raw=True)
    recipe = tiny_recipe(room / "tiny.json", epochs=2)
    byol.pretrain(pictures, room / "run", recipe=recipe, workers=0)

    def saved(asked: Request, learner: Learner, images: Identity) -> None:
        save(asked, learner, images)
        if learner.step == STOPPED_AT:
            raise Interrupted("stopped", 15)

    clock = mock.patch("byol.training.loop.time.monotonic", iter(range(0, 10**9, 10**3)).__next__)
    with clock, mock.patch("byol.training.loop.save", saved), suppress(Interrupted):
        byol.pretrain(pictures, room / "stopped", recipe=recipe, workers=0)
    wholes = {}
    for kind, (_, use) in KINDS.items():
        shutil.copytree(room, room.with_name("whole"))
        wholes[kind] = use(room.with_name("whole"))
        shutil.rmtree(room.with_name("whole"))
    judged(room)  # leaves the caches
    newest = checkpoint.newest(room / "stopped" / "checkpoints")
    assert newest is not None
    assert newest.name == f"step-{STOPPED_AT:09d}.pt", newest
    return wholes


def damaged(number: int, room: Path, wholes: dict[str, str], given: Namespace) -> str:
    """Damage a file of a copy, use it, and return what came of it."""
    kind, draw = list(KINDS)[number // 2 % len(KINDS)], random_of(given, number)
    pattern, use = KINDS[kind]
    with tempfile.TemporaryDirectory(dir=room.parent) as folder:
        copy = Path(shutil.copytree(room, Path(folder) / "room"))
        for path in [copy / "set", *(copy / "set").rglob("*")]:
            os.utime(path, (10**9, 10**9))
        os.environ["BYOL_CACHE"] = str(copy / "cache")
        if pattern.startswith("cache/"):
            use(copy)  # caches know the place of their set
        file = draw.choice(sorted(copy.glob(pattern)))
        data = bytearray(file.read_bytes())
        if number % 2:
            data[draw.integers(len(data))] ^= 1 << draw.integers(8)
        else:
            del data[draw.integers(len(data)) :]
        file.write_bytes(data)
        try:
            found = use(copy)
        except (UserError, UndecodableImage) as error:
            return "refused" if "\n" not in str(error) else f"not one sentence: {error}"
        assert found == wholes[kind], f"silent: {kind}: {'a bit' if number % 2 else 'cut short'}"
        return "equal"


def quietly(number: int, work: Callable[[int], str]) -> str:
    """Do something whose progress nobody reads."""
    with redirect_stderr(io.StringIO()):
        return work(number)


def main() -> int:
    """Damage files and count what came of it."""
    given = options(__doc__, 800).parse_args()
    torch.set_num_threads(1)
    tally = Tally("damage", given, ("files", "refused", "equal", "silent", "crash", "hang", "exception"))
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder) / "room"
        room.mkdir()
        os.environ["BYOL_CACHE"] = str(room / "cache")
        with redirect_stderr(io.StringIO()):
            wholes = prepare(room)
        work = partial(damaged, room=room, wholes=wholes, given=given)
        for number, outcome in in_children(partial(quietly, work=work), numbers(given), seconds=60.0):
            tally.counts["files"] += 1
            if outcome.kind == "done":
                tally.counts[outcome.detail] += 1
            else:
                is_silent = "silent: " in outcome.detail
                tally.fail("silent" if is_silent else outcome.kind, number, outcome.detail)
            tally.progress(tally.counts["files"], len(numbers(given)), 100)
    return tally.report()


if __name__ == "__main__":
    sys.exit(main())
