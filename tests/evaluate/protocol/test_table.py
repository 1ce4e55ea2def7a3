import pytest

from byol.evaluate.protocol.table import PROTOCOLS


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_is_made_under_its_name_and_described(name: str) -> None:
    make = PROTOCOLS[name]
    assert make().name == name
    first_line = (make.__doc__ or "").split("\n")[0]
    assert first_line.endswith(".")
    assert len(first_line) < 100
