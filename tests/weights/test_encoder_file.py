"""Not a bit of an encoder's file can change without a word."""

import json
import random
from pathlib import Path

import pytest
import torch

from byol.data.image.preprocessing import Preprocessing
from byol.errors import UserError
from byol.model.encoder import ConvNet
from byol.weights.encoder_file import read_encoder, save_encoder

SPEC = ConvNet(widths=(4, 8))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_encoder(tmp_path / "encoder.safetensors", SPEC.build(3), SPEC, Preprocessing(size=12))
    return tmp_path / "encoder.safetensors"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    network, how = SPEC.build(3), Preprocessing(size=12, fraction=0.9)
    save_encoder(tmp_path / "a.safetensors", network, SPEC, how)
    weights, spec, preprocessing = read_encoder(tmp_path / "a.safetensors")
    assert (spec, preprocessing) == (SPEC, how)
    assert weights.keys() == network.state_dict().keys()
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


def test_no_flipped_bit_is_silent(file: Path) -> None:
    content, draw = file.read_bytes(), random.Random(0)
    header = 8 + int.from_bytes(content[:8], "little")
    bits = [*range(64), *(draw.randrange(8 * header) for _ in range(400))]
    bits += [draw.randrange(8 * header, 8 * len(content)) for _ in range(200)]
    for bit in bits:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        with pytest.raises(UserError, match="not an encoder that byol wrote, or it is damaged"):
            read_encoder(file)


def test_no_truncation_is_silent(file: Path) -> None:
    content, draw = file.read_bytes(), random.Random(0)
    for length in [0, 1, 7, 8, 9, len(content) - 1, *(draw.randrange(len(content)) for _ in range(100))]:
        file.write_bytes(content[:length])
        with pytest.raises(UserError, match="damaged"):
            read_encoder(file)


def test_files_of_before_there_was_a_digest_are_read(file: Path) -> None:
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    del header["__metadata__"]["digest"]
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    assert read_encoder(file)[1] == SPEC


def test_a_header_without_end_is_a_sentence(file: Path) -> None:
    text = b"[" * 100_000
    file.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(UserError, match="damaged"):
        read_encoder(file)
