import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.ranks import Ranks

from byol.errors import UserError
from byol.system.processes import joined
from byol.system.sent import _packed, _received

VALUES: list[Any] = [
    None,
    True,
    0.1,
    float("inf"),
    "café \udcff\x1b",
    [1, [2, ("a", None)]],
    {"a": {"b": [0.5]}, "": ()},
    Path("a/b"),
    (("a.jpg", "it is cut short"),),
]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.uint8, torch.int64, torch.bool]


@pytest.mark.parametrize("value", VALUES)
def test_what_is_sent_arrives(value: object) -> None:
    assert _received(_packed(value)) == value


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3), (1, 2, 3)])
def test_tensors_arrive_bit_for_bit(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    sent = (torch.randn(shape) * 9).to(dtype)
    first, second = _received(_packed({"one": [sent, sent.mT if sent.ndim > 1 else sent]}))["one"]
    assert first.dtype == second.dtype == dtype
    assert torch.equal(first, sent)
    assert torch.equal(second, sent.mT if sent.ndim > 1 else sent)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("opened"),))


def as_bytes(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(Trap()),
        len(pickle.dumps(Trap())).to_bytes(8, "little") + pickle.dumps(Trap()),
        b"\0",
        (2).to_bytes(8, "little") + b'{"',
        (2**62).to_bytes(8, "little") + b"{}",
        (28).to_bytes(8, "little") + b'{"!tensor":["float32",[999]]}'[:28],
        (29).to_bytes(8, "little") + b'{"!tensor":["float32",[999]]}',
        (28).to_bytes(8, "little") + b'{"!tensor":["float32",[-9]]}',
        (25).to_bytes(8, "little") + b'{"!tensor":["load",[999]]}',
        (99_999).to_bytes(8, "little") + b"[" * 99_999,
    ],
)
def test_what_is_no_data_is_a_sentence_and_runs_nothing(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="sent what cannot be read"):
        _received(as_bytes(data))
    assert list(tmp_path.iterdir()) == []


def exchanged() -> list[Any]:
    with joined() as two:
        rows = torch.full((1 + 2 * two.rank, 2), float(two.rank), dtype=torch.bfloat16)
        return [
            two.gathered("a" * (1 + 1000 * two.rank)),
            two.gathered([rows])[1][0].tolist(),
            two.on_rank_zero(lambda: {"scores": {"knn": 0.1}, "at": Path("a")}),
            two.rows(rows).float()[:, 0].tolist(),
        ]


def test_two_processes_exchange_values_of_different_lengths(
    ranks: Ranks, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = ranks(exchanged)
    assert first == second
    assert [len(text) for text in first[0]] == [1, 1001]
    assert first[1] == [[1.0, 1.0]] * 3
    assert first[2] == {"scores": {"knn": 0.1}, "at": Path("a")}
    assert first[3] == [0.0, 1.0, 1.0, 1.0]


def test_no_collective_of_torch_that_pickles_is_called() -> None:
    import byol

    source = Path(byol.__file__).parent
    files = {path: path.read_text() for path in source.rglob("*.py")}
    pickling = (
        "all_gather_object",
        "broadcast_object_list",
        "gather_object",
        "scatter_object",
        "recv_object",
    )
    assert [path for path, text in files.items() for name in pickling if name in text] == []
