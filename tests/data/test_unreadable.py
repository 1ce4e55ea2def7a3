import pytest

from byol.data.unreadable import Bad, refuse_many_bad
from byol.errors import UserError


def test_one_bad_file_is_tolerated_in_any_set_and_one_in_a_hundred_in_large_ones() -> None:
    refuse_many_bad([Bad("x", "it is cut short")], 2)
    refuse_many_bad([Bad("x", "it is cut short")] * 3, 300)
    for bad, length in ((2, 2), (2, 199), (4, 399)):
        with pytest.raises(UserError, match=f"{bad} of {length} images"):
            refuse_many_bad([Bad("x", "it is cut short")] * bad, length)
