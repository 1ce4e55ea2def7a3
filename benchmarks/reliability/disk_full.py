"""Does a disk that is full at 50 random moments cost more than one sentence?

    python benchmarks/reliability/disk_full.py --count 50 --out docs/reliability/disk_full.json

A small file system in memory is mounted in a namespace of this process's own (`unshare -rm`), and filled but
for a room that is drawn, so that it is full at the beginning of a tiny run, at one of its checkpoints, in
TensorBoard's log, at the encoder, the summary or the figure; or while an encoder is judged. The command
has to end with one sentence and exit code 2. Then room is made, and the run is resumed (or begun again, or
judged again): it has to equal an undisturbed one to the last bit. Where namespaces are not allowed, that is
said, and the exit code is 0.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from harness import Ended, Tally, byol, numbers, options, random_of, same_run, tiny_recipe, write_pictures

INSIDE = "BYOL_INSIDE_NAMESPACE"
LIMIT = 120.0  # seconds that a process may take on a busy machine
SIZE = 48 << 20  # bytes of the disk
BLOCK = 4096


def enter_namespace() -> None:
    """Start this program again where it may mount file systems; end it where that is not allowed."""
    if os.environ.get(INSIDE):
        return
    tried = (
        subprocess.run(
            ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
        )
        if shutil.which("unshare")
        else None
    )
    if tried is None or tried.returncode:
        print("disk_full: not run: this machine does not allow namespaces with mounts of one's own.")
        raise SystemExit(0)
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "-rm", sys.executable, *sys.argv])


class Disk:
    """A file system in memory of which some bytes are free."""

    def __init__(self, at: Path) -> None:
        self.at = at
        at.mkdir(parents=True)
        self._mount("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", at)

    def fill(self, free: int) -> None:
        """Leave so many bytes free."""
        status = os.statvfs(self.at)
        ballast = max(0, status.f_bavail * status.f_frsize - free)
        with (self.at / "ballast").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(ballast // BLOCK * BLOCK, 1))

    def make_room(self) -> None:
        """Let the disk have enough for everything."""
        (self.at / "ballast").unlink()

    def gone(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", "-l", self.at], check=True)

    def _mount(self, *words: str | Path) -> None:
        subprocess.run(["mount", *words], check=True)


def numbers_of(answer: str, run: Path) -> str:
    """Return an answer in JSON without the times that it took, and without the place of the run."""

    def untimed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: untimed(one) for key, one in value.items() if key not in ("seconds", "provenance")}
        return [untimed(one) for one in value] if isinstance(value, list) else value

    return json.dumps(untimed(json.loads(answer))).replace(str(run), "RUN")


class Campaign:
    """The undisturbed run, and what is done to one disk after the other."""

    def __init__(self, work: Path, tally: Tally) -> None:
        self.work, self.tally = work, tally
        self.recipe = tiny_recipe(work / "tiny.json", epochs=10)
        self.data = {
            "files": write_pictures(work / "files", 26, sizes=(14, 40), suffix="jpg"),
            "memory": write_pictures(work / "memory", 26, sizes=(16, 16), suffix="png"),
        }
        self.whole: dict[str, Path] = {}
        self.judged: dict[str, str] = {}
        self.bytes: dict[str, int] = {}
        for kind in self.data:
            self.whole[kind] = work / f"reference-{kind}"
            place = work / f"cache-{kind}"
            ended = self.pretrain(kind, self.whole[kind], place)
            judged = self.judge(kind, self.whole[kind], place)
            for one in (ended, judged):
                if trouble := one.trouble(0):
                    raise SystemExit(f"an undisturbed run fails ({trouble}): {one}")
            self.judged[kind] = judged.out
            self.bytes[kind] = sum(
                path.stat().st_size
                for path in [*self.whole[kind].rglob("*"), *place.rglob("*")]
                if path.is_file()
            )

    def pretrain(self, kind: str, out: Path, cache: Path) -> Ended:
        """Train from the beginning."""
        words = ("pretrain", self.recipe, "--data", self.data[kind], "--out", out, "--workers", "1")
        return self._byol(cache, *words, "--checkpoint-seconds", "0.2")

    def resume(self, out: Path, cache: Path) -> Ended:
        """Go on."""
        return self._byol(cache, "resume", out, "--workers", "1", "--checkpoint-seconds", "0.2")

    def judge(self, kind: str, run: Path, cache: Path) -> Ended:
        """Judge a run."""
        return self._byol(cache, "eval", "knn", run, "--data", self.data[kind], "--json")

    def _byol(self, cache: Path, *words: str | Path) -> Ended:
        surroundings = {
            "BYOL_CACHE": str(cache),
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(cache.parent),
        }
        return byol(*words, seconds=LIMIT, environment=surroundings)

    def one(self, number: int, random: np.random.Generator) -> None:
        """Fill a disk while something is done on it, make room, and do it again."""
        kind = ("files", "memory")[number % 2]
        disk = Disk(self.work / f"disk-{number}")
        try:
            if number % 5 == 4:
                self._full_while_judging(kind, disk, number, random)
            else:
                self._full_while_training(kind, disk, number, random)
        finally:
            disk.gone()

    def _full_while_training(self, kind: str, disk: Disk, number: int, random: np.random.Generator) -> None:
        free = int(random.integers(0, int(1.2 * self.bytes[kind])))
        case = f"{number} ({kind}, training, {free} bytes free)"
        out, cache = disk.at / "run", disk.at / "cache"
        disk.fill(free)
        ended = self.pretrain(kind, out, cache)
        if not self._is_told(ended, case):
            return
        disk.make_room()
        for way in ("resume", "pretrain"):
            if ended.code == 0:
                break
            ended = self.resume(out, cache) if way == "resume" else self.pretrain(kind, out, cache)
            if trouble := ended.trouble(0, 2):
                self.tally.fail(trouble, case, f"{way}, with room: {ended}")
                return
        if ended.code:
            self.tally.fail("stuck", case, str(ended))
        elif difference := same_run(self.whole[kind], out):
            self.tally.fail("differs", case, difference)

    def _full_while_judging(self, kind: str, disk: Disk, number: int, random: np.random.Generator) -> None:
        run, cache = disk.at / "run", disk.at / "cache"
        shutil.copytree(self.whole[kind], run, ignore=shutil.ignore_patterns("results"))
        free = int(random.integers(0, 40)) * BLOCK
        case = f"{number} ({kind}, judging, {free} bytes free)"
        disk.fill(free)
        if not self._is_told(self.judge(kind, run, cache), case):
            return
        disk.make_room()
        ended = self.judge(kind, run, cache)
        if trouble := ended.trouble(0):
            self.tally.fail(trouble, case, f"with room: {ended}")
        elif numbers_of(ended.out, run) != numbers_of(self.judged[kind], self.whole[kind]):
            self.tally.fail("differs", case, ended.out)

    def _is_told(self, ended: Ended, case: str) -> bool:
        """Count how a command on a full disk ended; return whether it did so well."""
        if trouble := ended.trouble(0, 2):
            self.tally.fail(trouble, case, str(ended))
            return False
        if ended.code == 0:
            self.tally.counts["had room enough"] += 1
        elif sum(line.startswith("byol: ") for line in ended.err.splitlines()) != 1:
            self.tally.fail("no sentence", case, str(ended))
            return False
        else:
            self.tally.counts["told"] += 1
            self.tally.facts.setdefault("sentences", []).append(ended.sentence.replace(str(self.work), ""))
        return True


def main() -> int:
    """Fill the disks and count what came of it."""
    given = options(__doc__, 50).parse_args()
    enter_namespace()
    outcomes = ("moments", "told", "had room enough", "no sentence", "differs", "stuck", "hang", "orphan")
    tally = Tally("disk_full", given, (*outcomes, "traceback", "crash", "exit code"))
    with tempfile.TemporaryDirectory(prefix="disk-full-") as work:
        campaign = Campaign(Path(work), tally)
        for number in numbers(given):
            tally.counts["moments"] += 1
            campaign.one(number, random_of(given, number))
            tally.progress(tally.counts["moments"], len(numbers(given)), 5)
    sentences = tally.facts.get("sentences", [])
    tally.facts["sentences"] = sorted({sentence.split(":", 2)[-1].strip() for sentence in sentences})
    return tally.report()


if __name__ == "__main__":
    sys.exit(main())
