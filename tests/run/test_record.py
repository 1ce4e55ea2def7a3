import json
from pathlib import Path

import pytest

from byol.errors import UserError
from byol.run.record import Recorder, read


def test_events_are_lines_of_json_and_tensorboard_files(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with Recorder(path) as recorder:
        recorder.write("train", 1, loss=2.5, lr=0.1)
        recorder.write("knn", 1, knn_top1=50.0)
    assert [json.loads(line) for line in path.read_text().splitlines()] == read(path)
    assert read(path)[0] == {"kind": "train", "step": 1, "loss": 2.5, "lr": 0.1}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(1, 2.5)]


def test_a_resumed_run_forgets_what_it_will_write_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with Recorder(path) as recorder:
        for step in range(1, 6):
            recorder.write("train", step, loss=float(step))
    with Recorder(path, step=3) as recorder:
        recorder.write("train", 4, loss=40.0)
    assert [event["loss"] for event in read(path)] == [1.0, 2.0, 3.0, 40.0]


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"kind": "train", "step": 1}\n{"kind": "tra')
    assert [event["step"] for event in read(path)] == [1]
    with Recorder(path, step=1) as recorder:
        recorder.write("train", 2)
    assert [event["step"] for event in read(path)] == [1, 2]


def test_a_number_that_is_not_finite_becomes_null(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with Recorder(path) as recorder:
        recorder.write("train", 1, loss=float("nan"))
    assert read(path)[0]["loss"] is None


@pytest.mark.parametrize(
    "damaged",
    [b"junk", b"[1]", b'{"kind": "train"}', b'{"step": "1", "kind": "train"}', b"\xff\xfe", b"[" * 100_000],
)
def test_a_damaged_line_is_named(damaged: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with Recorder(path) as recorder:
        recorder.write("train", 1, loss=2.0)
        recorder.write("train", 2, loss=1.0)
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join((first, damaged, second, b"")))
    with pytest.raises(UserError, match=r"line 2 of .*metrics\.jsonl is damaged: take it out of the file"):
        read(path)
    with pytest.raises(UserError, match="line 2 of"):
        Recorder(path, 1)
    path.write_bytes(b"\n".join((first, second, damaged)))  # as a kill leaves it
    assert [event["step"] for event in read(path)] == [1, 2]
