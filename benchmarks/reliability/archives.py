"""Do 1,000 hostile or damaged archives write outside their folder, crash, hang or fill the disk?

    python benchmarks/reliability/archives.py --count 1000 --out docs/reliability/archives.json

Each archive (tar, tar.gz, tar.xz, zip) is made by hand with something evil in it (links that lead out, links
to links, absolute paths, `..`, devices, bombs, many files, odd names, a path twice), or a whole one that was
damaged. It is opened as a set of images in a forked process, with a cache folder of its own inside a folder
that is compared before and after. It has to be read or refused in one sentence; only regular files and
folders may come to be, below the cache; nothing of a refused archive may be left.
"""

import io
import os
import stat
import sys
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from harness import Tally, in_children, numbers, options, random_of
from PIL import Image

Random = np.random.Generator
SECONDS = 60.0  # that an archive may take on a busy machine
MOST_BYTES = 200_000_000  # that may come to be in the cache from an archive of this campaign
ENDINGS = (".tar", ".tar.gz", ".tar.xz", ".zip")
OUTSIDE = "outside"  # a folder beside the cache in which nothing may change


class Member:
    """A file of an archive: its name, its kind, and its bytes or where it leads."""

    def __init__(self, name: str, data: bytes = b"", kind: str = "file", to: str = "", mode: int = 0o644):
        self.name, self.data, self.kind, self.to, self.mode = name, data, kind, to, mode


def jpeg(seed: int) -> bytes:
    """Return a small picture."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def honest(count: int = 12) -> list[Member]:
    """Return what a whole archive holds."""
    return [Member(f"{'ab'[i % 2]}/{i:03d}.jpg", jpeg(i)) for i in range(count)]


# ---- evil members -------------------------------------------------------------------------------


def link_out(at: Path, random: Random) -> list[Member]:
    """A link that leads out, and a file to be written through it."""
    to = str(
        random.choice([f"../../{OUTSIDE}", f"{at / OUTSIDE}", "../..", "/", "..", f"../../../{OUTSIDE}"])
    )
    return [Member("a/way", kind="symlink", to=to), Member(f"a/way/{OUTSIDE}.jpg", jpeg(1))]


def nested_links(at: Path, random: Random) -> list[Member]:
    """Links to links, so deep that a path that is resolved is too long (as in CVE-2025-4517)."""
    part, members, path = "d" * 247, [], ""
    for letter in "abcdefghijklmnop":
        members += [
            Member(f"{path}{part}", kind="folder"),
            Member(f"{path}{letter}", kind="symlink", to=part),
        ]
        path += f"{letter}/"
    long = "/".join("abcdefghijklmnop") + "/" + "l" * 254
    members += [
        Member(long, kind="symlink", to="../" * 16),
        Member("escape", kind="symlink", to=long + f"/../../{OUTSIDE}"),
        Member("hard", kind="hardlink", to="escape/kept.jpg"),
        Member("hard", b"written through"),
        Member("escape/new.jpg", jpeg(2)),
    ]
    return members


def hard_link(at: Path, random: Random) -> list[Member]:
    """A hard link to a file outside, and bytes for it."""
    to = str(random.choice([f"../{OUTSIDE}/kept.jpg", f"{at / OUTSIDE / 'kept.jpg'}", "/etc/passwd"]))
    return [Member("a/x.jpg", kind="hardlink", to=to), Member("a/x.jpg", b"written through")]


def absolute(at: Path, random: Random) -> list[Member]:
    """An absolute path."""
    return [
        Member(f"{at / OUTSIDE}/new{random.integers(9)}.jpg", jpeg(1)),
        Member(f"//{at}/new.jpg", jpeg(2)),
    ]


def upward(at: Path, random: Random) -> list[Member]:
    """A path with `..`, written in several ways."""
    names = (
        f"../{OUTSIDE}/new.jpg",
        f"a/../../../{OUTSIDE}/new.jpg",
        f"..\\{OUTSIDE}\\new.jpg",
        f"a/./..//../{OUTSIDE}/kept.jpg",
        f"../../{OUTSIDE}/kept.jpg",
        "C:\\new.jpg",
        "..",
        "a/..",
    )
    return [Member(str(random.choice(names)), jpeg(1))]


def devices(at: Path, random: Random) -> list[Member]:
    """A device, a pipe, or a file with every permission bit, with the name of a picture."""
    kind = str(random.choice(["pipe", "character", "block"]))
    return [Member(f"a/{kind}.jpg", kind=kind), Member("a/mode.jpg", jpeg(1), mode=0o6777)]


def bomb(at: Path, random: Random) -> list[Member]:
    """A picture of a few bytes that unpack to hundreds of megabytes."""
    return [Member("a/zeros.jpg", bytes(int(random.choice([100, 400])) << 20))]


def many(at: Path, random: Random) -> list[Member]:
    """Very many files, or the same name again and again."""
    count = int(random.choice([1_000, 10_000]))
    same = random.random() < 0.5
    return [Member("a/same.jpg" if same else f"a/{i}.jpg", b"x") for i in range(count)]


def odd_names(at: Path, random: Random) -> list[Member]:
    """Names that are empty, very long, very deep, or full of what a terminal obeys."""
    names = (
        "",
        "/",
        ".",
        "a/" * 2_000 + "x.jpg",
        "x" * 5_000 + ".jpg",
        "a/\x1b]0;title\x07\x1b[2J.jpg",
        "a/[/red][bold].jpg",
        "a/line\nbreak.jpg",
        "a/\u202egpj.exe.jpg",
        "a/\udcff\udcfe.jpg",
        "a/con.jpg:stream.jpg",
        " .jpg",
        ".jpg",
        "a/.jpg/",
        "a\0b.jpg",
        "-rf.jpg",
        "a/~/x.jpg",
        "$(touch x).jpg",
    )
    return [Member(str(name), jpeg(i)) for i, name in enumerate(random.choice(names, 3, replace=False))]


def collision(at: Path, random: Random) -> list[Member]:
    """A path that is a file and a folder, a link and a file, or differs in case alone."""
    pairs = (
        [Member("a/x.jpg", jpeg(1)), Member("a/x.jpg/y.jpg", jpeg(2))],
        [Member("a/x.jpg/y.jpg", jpeg(2)), Member("a/x.jpg", jpeg(1))],
        [Member("b", kind="symlink", to="a"), Member("b/z.jpg", jpeg(1))],
        [Member("loop", kind="symlink", to="loop"), Member("loop/z.jpg", jpeg(1))],
        [Member("p.jpg", kind="symlink", to="q.jpg"), Member("q.jpg", kind="symlink", to="p.jpg")],
        [Member("p.jpg", kind="hardlink", to="p.jpg")],
        [Member("A/000.jpg", jpeg(1)), Member("a/000.JPG", jpeg(2))],
    )
    return pairs[int(random.integers(len(pairs)))]


def a_list(at: Path, random: Random) -> list[Member]:
    """A list that names files outside of the archive."""
    rows = random.choice([f"../{OUTSIDE}/kept.jpg", f"{at / OUTSIDE}/kept.jpg", "/dev/zero", "a/000.jpg"], 2)
    name = str(random.choice(["labels.csv", "list.txt", "a/labels.csv"]))
    return [Member(name, ("path,label\n" + "".join(f"{row},x\n" for row in rows)).encode())]


EVIL: tuple[Callable[[Path, Random], list[Member]], ...] = (
    *(link_out, nested_links, hard_link, absolute, upward, devices, odd_names, collision, a_list),
)
LARGE = (bomb, many)  # which take seconds: one in fifty


# ---- writing archives ---------------------------------------------------------------------------

_KINDS = {
    "file": (tarfile.REGTYPE, stat.S_IFREG),
    "folder": (tarfile.DIRTYPE, stat.S_IFDIR),
    "symlink": (tarfile.SYMTYPE, stat.S_IFLNK),
    "hardlink": (tarfile.LNKTYPE, stat.S_IFREG),
    "pipe": (tarfile.FIFOTYPE, stat.S_IFIFO),
    "character": (tarfile.CHRTYPE, stat.S_IFCHR),
    "block": (tarfile.BLKTYPE, stat.S_IFBLK),
}


def write(path: Path, members: list[Member]) -> None:
    """Write an archive of the kind that the ending says."""
    if path.suffix == ".zip":
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as packed:
            warnings.simplefilter("ignore")  # a name may be there twice
            for member in members:
                info = zipfile.ZipInfo(member.name.encode(errors="replace").decode() or "?")
                info.filename = member.name.encode(errors="replace").decode()  # with a zero, as it came
                info.external_attr = (_KINDS[member.kind][1] | member.mode) << 16
                info.compress_type = zipfile.ZIP_DEFLATED
                is_link = member.kind in ("symlink", "hardlink")
                packed.writestr(info, member.to.encode() if is_link else member.data)
        return
    mode = {".tar": "w", ".gz": "w:gz", ".xz": "w:xz"}[path.suffix]
    with tarfile.open(path, mode, preset=0) if mode == "w:xz" else tarfile.open(path, mode) as tar:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.type, info.mode, info.linkname = _KINDS[member.kind][0], member.mode, member.to
            info.size = len(member.data) if member.kind == "file" else 0
            info.devmajor, info.devminor = 1, 5  # /dev/zero
            tar.addfile(info, io.BytesIO(member.data))


def damage(path: Path, random: Random) -> None:
    """Flip bits of an archive, cut it, or take a part out."""
    data = bytearray(path.read_bytes())
    way = random.integers(4)
    if way == 0:
        del data[random.integers(len(data)) :]
    elif way == 1:
        first, last = sorted(random.integers(0, len(data), 2))
        del data[first:last]
    else:
        reach = len(data) if way == 2 else min(len(data), 600)
        for position in random.integers(0, reach, 2 ** random.integers(0, 8)):
            data[position] ^= 1 << random.integers(0, 8)
    path.write_bytes(data)


def make(at: Path, number: int, random: Random) -> tuple[str, Path]:
    """Write archive `number`; return what is in it, and where it lies."""
    path = at / f"images{ENDINGS[number % len(ENDINGS)]}"
    which = number // len(ENDINGS) % (2 * len(EVIL))
    if which >= len(EVIL) and number % 50 != 49:
        write(path, honest() + (EVIL[which % len(EVIL)](at, random) if random.random() < 0.2 else []))
        damage(path, random)
        return f"{path.name}, damaged", path
    evil = LARGE[number // 50 % 2] if number % 50 == 49 else EVIL[which % len(EVIL)]
    members = evil(at, random)
    place = random.integers(3)
    write(path, members if place == 0 else honest() + members if place == 1 else members + honest())
    if random.random() < 0.1:
        damage(path, random)
    return f"{path.name}, {evil.__name__}", path


# ---- opening them -------------------------------------------------------------------------------


@contextmanager
def watched() -> Iterator[Path]:
    """Context of a folder with a cache in it and, beside that, files that have to stay as they are."""
    with tempfile.TemporaryDirectory(prefix="archives-") as name:
        at = Path(name)
        for folder in ("cache", OUTSIDE, "work"):
            (at / folder).mkdir()
        for folder in (at, at / OUTSIDE, at / "work"):
            (folder / "kept.jpg").write_bytes(jpeg(99))
        yield at


def standing(at: Path) -> dict[str, tuple[int, ...]]:
    """Return path -> kind, size, links, time of all that lies in a folder but not below its cache."""
    found = {}
    for folder, folders, files in os.walk(at):
        if Path(folder) == at:
            folders.remove("cache")
        for name in [*folders, *files]:
            path = os.path.join(folder, name)  # noqa: PTH118 - names may be any bytes
            status = os.lstat(path)
            changed = status.st_mtime_ns if stat.S_ISREG(status.st_mode) else 0
            found[path] = (status.st_mode, status.st_size, status.st_nlink, changed)
    return found


def opened(number: int, *, given: object) -> str:
    """Open an archive in a watched folder; return "read" or "refused"."""
    from byol.data.opening import open_data
    from byol.errors import UserError

    with watched() as at:
        said = "."
        what, archive = make(at, number, random_of(given, number))
        before = standing(at)
        os.chdir(at / "work")
        try:
            sets = open_data(str(archive), at / "cache")
            images = next(iter(sets.values()))
            images.read(0, 1.0)
            found = "read"
        except UserError as error:
            found, said = "refused", str(error)
        except ValueError as error:
            if type(error).__name__ != "UndecodableImage":
                raise
            found = "read"  # the archive was; its picture is no picture
        finally:
            os.chdir("/")
        assert len(said) < 2_000, f"{what}: a sentence of {len(said)} characters"
        assert said.endswith("."), f"{what}: no sentence: {said[:200]!r}"
        after = standing(at)
        assert before == after, f"outside: {what}: {sorted(before.items() ^ after.items())[:3]}"
        inside_only_plain(at / "cache", what, found)
        return found


def inside_only_plain(cache: Path, what: str, found: str) -> None:
    """Make sure that a cache holds regular files and folders alone, no more than it may, and no leftovers."""
    total = 0
    for folder, folders, files in os.walk(cache):
        for name in [*folders, *files]:
            status = os.lstat(os.path.join(folder, name))  # noqa: PTH118 - names may be any bytes
            is_plain = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
            assert is_plain, f"inside: {what}: {name!r} is a {stat.filemode(status.st_mode)}"
            assert not status.st_mode & 0o6000, (
                f"inside: {what}: {name!r} has {stat.filemode(status.st_mode)}"
            )
            assert stat.S_ISDIR(status.st_mode) or status.st_nlink == 1, f"inside: {what}: {name!r} is linked"
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    assert total <= MOST_BYTES or "bomb" in what, f"inside: {what}: {total} bytes"
    growing = [path.name for path in cache.iterdir() if path.is_dir() and path.name.count(".") > 1]
    assert not growing, f"left over: {what}: {growing}"


def main() -> int:
    """Open the archives and count what came of it."""
    given = options(__doc__, 1_000).parse_args()
    import torch

    import byol.data.opening  # noqa: F401 - once, before the children are forked

    torch.set_num_threads(1)
    outcomes = ("archives", "read", "refused", "outside", "inside", "left over", "crash", "hang")
    tally = Tally("archives", given, (*outcomes, "memory", "exception", "noise"))
    work = partial(opened, given=given)
    for number, outcome in in_children(work, numbers(given), seconds=SECONDS, batch=100):
        tally.counts["archives"] += 1
        if outcome.kind == "done":
            tally.counts[outcome.detail] += 1
        else:
            words = outcome.detail.removeprefix("builtins.AssertionError: ").split(": ")[0]
            kind = words if words in ("outside", "inside", "left over") else outcome.kind
            tally.fail(kind, number, outcome.detail)
        tally.progress(tally.counts["archives"], len(numbers(given)), 100)
    return tally.report()


if __name__ == "__main__":
    sys.exit(main())
