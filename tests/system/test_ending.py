"""What a signal does to the program, at any moment: processes of their own, to which signals are sent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BUSY = {  # what is going on when the signal comes
    "python": "while True: sum(range(1000))",
    "torch": "import torch; x = torch.randn(3000, 3000)\nwhile True: x = torch.linalg.qr(x)[0]",
    "pool": "from concurrent.futures import ThreadPoolExecutor as P; import time\n"
    "with P(2) as pool: [pool.submit(time.sleep, 9) for _ in range(99)]",
    "deaf": "import time\nwhile True:\n try: time.sleep(99)\n except BaseException: pass",
    "finalizer": "import time\nclass A:\n def __del__(self): time.sleep(99)\nA()",
    "converted": "import time\ntry: time.sleep(99)\nexcept BaseException: raise RuntimeError('of its own')",
    "process": "import multiprocessing, time; context = multiprocessing.get_context('fork')\n"
    "context.Process(target=time.sleep, args=(99,), daemon=True).start(); time.sleep(99)",
}
PROGRAM = """
import sys, byol.cli
from byol.answer import Answer
import functools, byol
original = byol.recipes
@functools.wraps(original)
def recipes(*args, **kwargs):
    print("working", flush=True)
    exec(BUSY, {})
byol.recipes = recipes
sys.argv = ["byol", "recipes", "builtin"]
sys.exit(byol.cli.main())
"""


def started(busy: str) -> "subprocess.Popen[str]":
    program = PROGRAM.replace("BUSY", repr(BUSY[busy]))
    running = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "working\n"
    time.sleep(0.3)
    return running


def ended(running: "subprocess.Popen[str]", within: float) -> str:
    """Return what a process said that ends soon."""
    begun = time.monotonic()
    try:
        said = running.communicate(timeout=60)[1]
    finally:
        running.kill()  # where it has not ended, it would go on for ever
    assert time.monotonic() - begun < within
    return said


@pytest.mark.parametrize(
    "busy", ["python", *(pytest.param(busy, marks=pytest.mark.slow) for busy in BUSY if busy != "python")]
)
def test_the_second_interrupt_ends_at_once_and_quietly(busy: str) -> None:
    running = started(busy)
    running.send_signal(signal.SIGINT)
    time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    assert ended(running, within=12) in ("", "byol: broken off; what was last saved is still there.\n")
    assert running.returncode == 130


@pytest.mark.slow
@pytest.mark.parametrize(
    ("busy", "number"),
    [
        *(("python", signal.SIGINT), ("python", signal.SIGTERM), ("pool", signal.SIGTERM)),
        *(("deaf", signal.SIGINT), ("converted", signal.SIGTERM), ("finalizer", signal.SIGINT)),
    ],
)
def test_one_is_enough_within_seconds(busy: str, number: signal.Signals) -> None:
    running = started(busy)
    running.send_signal(number)
    said = "byol: broken off; what was last saved is still there.\n" if number == signal.SIGINT else ""
    assert ended(running, within=25) == said
    assert running.returncode == 128 + number


@pytest.mark.parametrize(
    ("number", "seconds"), [(signal.SIGINT, 0.5), (signal.SIGINT, 1.5), (signal.SIGTERM, 1.0)]
)
def test_while_modules_are_imported_nothing_is_held(
    number: signal.Signals, seconds: float, tmp_path: Path
) -> None:
    words = ["eval", "knn", str(tmp_path), "--data", str(tmp_path)]
    running = subprocess.Popen(
        [sys.executable, "-m", "byol", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(seconds)
    running.send_signal(number)
    said = running.communicate(timeout=60)[1]
    assert "Traceback" not in said
    assert running.returncode in (128 + number, 2)  # 2: it had ended by itself, as there is no encoder


@pytest.mark.slow
def test_an_ignored_interrupt_stays_ignored() -> None:
    program = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + PROGRAM.replace(
        "BUSY", repr("import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(0.1)")
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "AttributeError" in done.stderr  # it went on to print an answer, which there is none of


def test_closed_standard_streams_are_filled(tmp_path: Path) -> None:
    code = (
        "import os; from byol.system.ending import fill_standard_streams; fill_standard_streams();"
        f"assert os.open({str(tmp_path)!r}, os.O_RDONLY) > 2"
    )
    done = subprocess.run(["sh", "-c", f'exec {sys.executable} -c "{code}" <&- >&- 2>&-'], check=False)
    assert done.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_an_answer_that_cannot_be_written_is_a_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "byol", "--help"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 2
    assert done.stderr == b"byol: the answer cannot be written: No space left on device.\n"


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_streams_may_be_closed(closed: str) -> None:
    command = f"exec {sys.executable} -m byol --help {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_nobody_reading_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "byol", "recipes"], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
