import errno
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from byol.errors import UserError
from byol.run import checkpoint

CPU = torch.device("cpu")


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    state = {"weights": {"w": torch.randn(3)}, "names": ["a"], "seconds": 1.5}
    path = checkpoint.save(tmp_path, 7, state)
    assert checkpoint.newest(tmp_path) == path
    loaded = checkpoint.load(path, CPU)
    assert loaded["step"] == 7
    assert torch.equal(loaded["weights"]["w"], state["weights"]["w"])  # type: ignore[index]
    assert (loaded["names"], loaded["seconds"]) == (["a"], 1.5)


def test_a_small_rotation_is_kept(tmp_path: Path) -> None:
    for step in range(1, 6):
        checkpoint.save(tmp_path, step, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000004.pt", "step-000000005.pt"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_checkpoint_is_named_with_the_one_before(share: float, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, {"w": torch.randn(1000)})
    path = checkpoint.save(tmp_path, 2, {"w": torch.randn(1000)})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"step-000000002\.pt is truncated.*delete it.*step-000000001\.pt"):
        checkpoint.load(path, CPU)


@pytest.mark.parametrize("seed", range(4))
def test_no_flipped_bit_is_silent(seed: int, tmp_path: Path) -> None:
    state = {"w": torch.randn(500), "names": ["a", "b"]}
    path, draw = checkpoint.save(tmp_path, 1, state), random.Random(seed)
    content = path.read_bytes()
    tail = 8 * len(content) - 1
    for bit in [*(draw.randrange(8 * len(content)) for _ in range(100)), *range(tail, tail - 200, -7)]:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged"):
            checkpoint.load(path, CPU)


def test_what_lost_its_digest_is_damaged(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, {"w": torch.randn(5)})
    path.write_bytes(path.read_bytes()[:-24])
    with pytest.raises(UserError, match="damaged"):
        checkpoint.load(path, CPU)


class Payload:
    def __reduce__(self) -> Any:
        return print, ("executed",)


def test_a_checkpoint_cannot_execute_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "step-000000001.pt"
    torch.save({"format": 1, "w": Payload()}, path)
    with pytest.raises(UserError):
        checkpoint.load(path, CPU)
    assert "executed" not in capsys.readouterr().out


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "step-000000001.pt"
    torch.save({"format": 99}, path)
    with pytest.raises(UserError, match="not a byol checkpoint of format 4"):
        checkpoint.load(path, CPU)


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    """/dev/full answers every write as a full disk does."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    good = checkpoint.save(tmp_path, 1, {"w": torch.ones(3)})
    (tmp_path / ".step-000000002.pt.tmp").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"the disk is full.*last good checkpoint is .*step-000000001\.pt"):
        checkpoint.save(tmp_path, 2, {"w": torch.ones(3_000_000)})
    assert [path.name for path in tmp_path.iterdir()] == [good.name]
    assert torch.equal(checkpoint.load(good, CPU)["w"], torch.ones(3))


def test_the_name_appears_only_when_the_content_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(UserError, match="Input/output error; there is no earlier checkpoint"):
        checkpoint.save(tmp_path, 1, {})
    assert list(tmp_path.iterdir()) == []
