"""Does a phone's photo folder, copied by hand, go the whole way: pretrain, eval, embed?

    python benchmarks/reliability/phone.py --data caltech101.tar.xz --out docs/reliability/phone.json

The folder holds what such folders hold: albums of JPEG turned by EXIF, screenshots (PNG with alpha), HEIC,
videos and the .MOV of live photos, `.DS_Store`, thumbnails of the system, a text file, one album twice under
another name, and one picture whose copying broke off. The pictures are real ones of an archive that is given
by `--data` (a tar with folders of JPEG), or drawn; HEIC is real where pillow-heif is installed. Then, as a
new user would: learn from it, read what is said, judge the encoder on labelled pictures, and embed single
ones. Each thing that a person has to know must be said, on a line of its own, before the first step.
"""

import io
import sys
import tarfile
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from harness import Ended, Tally, byol, options, tiny_recipe
from PIL import Image

LIMIT = 600.0
ALBUMS = ("Camera", "Holiday 2026", "WhatsApp Images")
EACH = 30  # pictures of an album


def photographs(archive: Path | None, seed: int) -> dict[str, list[bytes]]:
    """Return class -> JPEG files, from an archive or drawn."""
    random = np.random.default_rng(seed)
    found: dict[str, list[bytes]] = {}
    if archive is not None:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and member.name.lower().endswith((".jpg", ".jpeg")):
                    file = tar.extractfile(member)
                    assert file is not None, member.name
                    found.setdefault(Path(member.name).parent.name, []).append(file.read())
        if len(found) >= len(ALBUMS):
            return found
        raise SystemExit(f"{archive} holds {len(found)} folders of JPEG; {len(ALBUMS)} are needed.")
    for number, name in enumerate("abc"):
        for _ in range(2 * EACH):
            coarse = random.integers(0, 200, (6, 8, 3), dtype=np.uint8)
            coarse[:, :, number] = 255
            image = Image.fromarray(coarse).resize((400, 300), Image.Resampling.BICUBIC)
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=85)
            found.setdefault(name, []).append(buffer.getvalue())
    return found


def fill(folder: Path, pictures: dict[str, list[bytes]]) -> int:
    """Write the folder of the phone; return how many whole pictures are in it."""
    count = 0
    for album, name in zip(ALBUMS, sorted(pictures), strict=False):
        place = folder / album
        place.mkdir(parents=True)
        for i, data in enumerate(pictures[name][:EACH]):
            exif = Image.Exif()
            exif[0x0112] = (1, 3, 6, 8)[i % 4]
            with Image.open(io.BytesIO(data)) as image:
                suffix = ("jpg", "JPG", "jpeg")[i % 3]
                image.convert("RGB").save(place / f"IMG_{i:04d}.{suffix}", "JPEG", exif=exif)
            count += 1
        (place / ".DS_Store").write_bytes(b"\0\0\0\1Bud1" + bytes(100))
    camera = folder / ALBUMS[0]
    copy = folder / f"{ALBUMS[0]} (1)"
    copy.mkdir()
    for path in camera.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
        count += path.suffix.lower() in (".jpg", ".jpeg")
    shots = folder / "Screenshots"
    shots.mkdir()
    for i in range(6):
        pixels = np.full((160, 90, 4), 255, np.uint8)
        pixels[20 * i : 20 * i + 30, :, :3] = (30, 90, 200)
        pixels[:8, :, 3] = 0
        Image.fromarray(pixels).save(shots / f"Screenshot_2026-0{i + 1}.png")
        count += 1
    for i in range(3):
        (camera / f"IMG_{i:04d}.MOV").write_bytes(b"\0\0\0\x14ftypqt  " + bytes(2_000))
        (camera / f"VID_{i:04d}.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(2_000))
    for i in range(4):
        (camera / f"IMG_{90 + i:04d}.HEIC").write_bytes(heic(pictures[sorted(pictures)[0]][i]))
        count += can_read_heic()
    broken = camera / "IMG_0005.jpeg"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    (folder / "Thumbs.db").write_bytes(bytes(500))
    (folder / "read me.txt").write_text("from my phone\n")
    return count - 1


def heic(data: bytes) -> bytes:
    """Return a picture as HEIC where something here can write one, or else the beginning of one."""
    if not can_read_heic():
        return b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500)
    import pillow_heif

    pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        image.convert("RGB").save(buffer, "HEIF")
    return buffer.getvalue()


def main() -> int:
    """Go the whole way and check what is said."""
    asked = options(__doc__, 1)
    asked.add_argument("--data", type=Path, help="a tar with folders of JPEG; by default pictures are drawn")
    asked.add_argument("--epochs", type=int, default=2, help="of the `photos` recipe, with --data [2]")
    given = asked.parse_args()
    tally = Tally("phone", given, ("said", "not said", "traceback", "hang", "orphan", "crash", "exit code"))
    pictures = photographs(given.data, given.seed)
    with tempfile.TemporaryDirectory(prefix="phone-") as name:
        work = Path(name)
        folder, run = work / "From my phone", work / "run"
        whole = fill(folder, pictures)
        surroundings = {"BYOL_CACHE": str(work / "cache")}
        recipe = "photos" if given.data else tiny_recipe(work / "tiny.json", epochs=2)

        def do(step: str, *words: str | Path) -> Ended:
            ended = byol(*words, seconds=LIMIT, environment=surroundings)
            if trouble := ended.trouble(0):
                tally.fail(trouble, step, str(ended))
            tally.facts[step] = ended.err.replace(str(work), "").splitlines()
            return ended

        def must_say(step: str, what: str, ended: Ended, *words: str) -> None:
            lines = [line for line in ended.err.splitlines() if all(word in line for word in words)]
            if lines and not any(line.startswith("step ") for line in lines):
                tally.counts["said"] += 1
            else:
                tally.fail("not said", f"{step}: {what}", f"no line with {words} in {ended.err}")

        flags = ("--epochs", str(given.epochs), "--warmup-epochs", "0")
        learned = do("pretrain", "pretrain", recipe, "--data", folder, "--out", run, *flags)
        must_say("pretrain", "videos are passed over, and how many", learned, "3", ".mov", ".mp4")
        must_say("pretrain", "HEIC is read, or named with what reads it", learned, *_heic_words(whole))
        must_say("pretrain", "the broken picture, and why", learned, "IMG_0005.jpeg", "cut short")
        must_say("pretrain", "one album is there twice", learned, f"{ALBUMS[0]} (1)", "byte for byte")
        must_say("pretrain", "which classes were found", learned, *ALBUMS[:2], "Screenshots")
        must_say("pretrain", "how many images", learned, "images", "steps 0 to")
        for hidden in (".DS_Store", "Thumbs.db"):
            if hidden in learned.err:
                tally.fail("not said", hidden, "the system's own files are nobody's concern")
        labelled = work / "labelled"
        for number, (kind, files) in enumerate(sorted(pictures.items())[:3]):
            for i, data in enumerate(files[EACH : 2 * EACH] or files):
                split = "test" if i % 3 == 0 else "train"
                path = labelled / split / f"kind {number}" / f"{i:03d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            tally.facts.setdefault("kinds", []).append(kind)
        judged = do("eval", "eval", "knn", run, "--data", labelled)
        if "raw pixels" not in judged.out:
            tally.fail("not said", "eval: beside what it has to beat", judged.out)
        embed(run, folder, whole, tally)
    return tally.report()


def _heic_words(whole: int) -> tuple[str, ...]:
    """Return what a line has to say: what reads HEIC, or how many images there are with it."""
    return (f": {whole + 1} images,",) if can_read_heic() else ("heic", "byol[heic]")


def can_read_heic() -> bool:
    """Return whether the extra is installed."""
    return find_spec("pillow_heif") is not None


def embed(run: Path, folder: Path, whole: int, tally: Tally) -> None:
    """Embed the folder's pictures one by one and all together."""
    import byol as package

    encoder = package.load(run)
    endings = (".jpg", ".jpeg", ".png", *((".heic",) if can_read_heic() else ()))
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in endings)
    try:
        encoder.embed(paths)
        tally.fail("not said", "embed", "the broken picture went through")
    except package.UserError as refused:
        if "IMG_0005.jpeg" in str(refused):
            tally.counts["said"] += 1
        else:
            tally.fail("not said", "embed: which picture is broken", str(refused))
        tally.facts["embed"] = str(refused).replace(str(folder), "")
    paths = [path for path in paths if path.name != "IMG_0005.jpeg" or path.parent.name != ALBUMS[0]]
    rows = encoder.embed(paths)
    if len(rows) != whole or not bool(rows.isfinite().all()):
        tally.fail("not said", "embed", f"{len(rows)} rows for {whole} pictures")
    with Image.open(paths[0]) as image:
        image.load()
        difference = float((encoder.embed([image]) - rows[:1]).abs().max())
    if difference > 0.02:
        tally.fail("not said", "embed", f"an opened picture differs from its file by {difference:.3f}")


if __name__ == "__main__":
    sys.exit(main())
