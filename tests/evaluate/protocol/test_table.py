import subprocess
import sys

import pytest

from byol.evaluate.protocol.table import PROTOCOLS


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_is_made_under_its_name_and_described(name: str) -> None:
    entry = PROTOCOLS[name]
    assert entry.make().name == name
    assert 0 < len(entry.does) <= 80 - len(f"  {name:<19}")  # of the smallest terminal
    assert entry.flags.startswith("--")


def test_the_table_waits_for_no_heavy_import() -> None:
    code = (
        "import sys; from byol.evaluate.protocol.table import PROTOCOLS; assert 'knn' in PROTOCOLS; "
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
