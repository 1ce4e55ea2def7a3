import os
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from byol.errors import UserError
from byol.run.events import EventFile, frame
from byol.run.record import Recorder, read
from byol.system.files import write_all


def test_a_record_is_framed_as_tensorflow_frames_it() -> None:
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    for data in (b"", b"a", bytes(range(256)) * 3):
        whole = frame(data)
        assert whole[:8] == len(data).to_bytes(8, "little")
        assert int.from_bytes(whole[8:12], "little") == masked_crc32c(whole[:8])
        assert whole[12:-4] == data
        assert int.from_bytes(whole[-4:], "little") == masked_crc32c(data)


def test_tensorboard_reads_what_is_written_at_once_and_forgets_what_is_written_again(tmp_path: Path) -> None:
    with EventFile(tmp_path, purge_step=1) as first:
        for step in range(1, 6):
            first.scalars(step, {"train/loss": float(step), "train/lr": 0.5, "\x1b[31m[/]": float("nan")})
        seen = EventAccumulator(str(tmp_path)).Reload()  # while the file is open
        assert [(one.step, one.value) for one in seen.Scalars("train/loss")] == [(i, i) for i in range(1, 6)]
    with EventFile(tmp_path, purge_step=4) as second:
        second.scalars(4, {"train/loss": 40.0})
    seen = EventAccumulator(str(tmp_path)).Reload()
    assert [one.value for one in seen.Scalars("train/loss")] == [1.0, 2.0, 3.0, 40.0]
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 2


def test_a_file_that_is_cut_is_read_up_to_there(tmp_path: Path) -> None:
    with EventFile(tmp_path, purge_step=1) as events:
        events.scalars(1, {"a": 1.0})
        events.scalars(2, {"a": 2.0})
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    assert [one.step for one in EventAccumulator(str(tmp_path)).Reload().Scalars("a")] == [1]


class Full:
    """A file that takes a few bytes at a time, and then no more."""

    def __init__(self, room: int) -> None:
        self.held, self.room = b"", room

    def write(self, data: bytes) -> int:
        if not self.room:
            raise OSError(28, os.strerror(28))
        taken = data[: min(3, self.room)]
        self.held, self.room = self.held + taken, self.room - len(taken)
        return len(taken)


def test_all_is_written_or_the_system_says_why_not() -> None:
    enough, full = Full(100), Full(7)
    write_all(enough, b"0123456789")  # type: ignore[arg-type]
    assert enough.held == b"0123456789"
    with pytest.raises(OSError, match="No space"):
        write_all(full, b"0123456789")  # type: ignore[arg-type]


@pytest.mark.parametrize("which", ["_file", "_board"])
def test_a_full_disk_is_a_sentence_and_what_was_cut_is_forgotten(which: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with Recorder(path) as it:
        it.write("train", 1, loss=1.0)
        holder: Any = it if which == "_file" else it._board
        whole, holder._file = holder._file, Full(5)
        with pytest.raises(UserError, match=r"the disk is full\. Make room .* use --resume"):
            it.write("train", 2, loss=2.0)
        whole.write(holder._file.held)
        holder._file = whole
    with Recorder(path, step=1) as again:
        again.write("train", 2, loss=2.5)
    assert [one["loss"] for one in read(path)] == [1.0, 2.5]
    scalars = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("train/loss")
    assert [one.value for one in scalars] == [1.0, 2.5]


def test_a_folder_in_the_way_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("in the way")
    with pytest.raises(UserError, match=r"records of the run in .* cannot be written: .* use --resume"):
        Recorder(tmp_path / "metrics.jsonl")
