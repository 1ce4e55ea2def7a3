import io
from pathlib import Path

import pytest

from byol.system.summed import TAIL, Summed, add_sum, content_end, has_sum

CONTENT = bytes(range(256)) * 5000  # more than one part of those that are read


def written(content: bytes) -> bytes:
    file = io.BytesIO()
    summed = Summed(file)
    summed.write(content[:100])
    summed.write(content[100:])
    summed.end()
    return file.getvalue()


@pytest.mark.parametrize("content", [b"", b"a", CONTENT])
def test_what_was_written_is_found_whole(content: bytes) -> None:
    file = io.BytesIO(written(content))
    assert has_sum(file)
    assert content_end(file) == len(content)
    assert file.tell() == 0
    assert file.read(len(content)) == content


def test_a_digest_that_is_added_later_is_the_same(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as file:
        file.write(CONTENT)
        add_sum(file)
    assert (tmp_path / "file").read_bytes() == written(CONTENT)


@pytest.mark.parametrize("place", [0, 1000, len(CONTENT) - 1, *range(-TAIL, 0)])
def test_no_flipped_bit_is_silent(place: int) -> None:
    data = bytearray(written(CONTENT))
    data[place] ^= 4
    with pytest.raises(ValueError, match="digest"):
        content_end(io.BytesIO(data))


@pytest.mark.parametrize("kept", [0, 1, TAIL - 1, TAIL, 1000, len(CONTENT)])
def test_nothing_cut_short_is_silent(kept: int) -> None:
    with pytest.raises(ValueError, match="digest"):
        content_end(io.BytesIO(written(CONTENT)[:kept]))
