import hashlib
import io
import json

import numpy as np

from byol.system.digest import bytes_digest, digest, file_digest, json_digest, number_digest


def test_parts_are_hashed_one_after_the_other() -> None:
    array = np.arange(6, dtype=np.int64).reshape(2, 3)
    expected = hashlib.sha256(b"abc" + b"\x00" + array.tobytes()).hexdigest()
    assert digest("abc", b"\x00", array) == expected[:32]
    assert digest("abc", b"\x00", array, length=64) == expected


def test_an_array_counts_by_its_values_however_it_lies_in_memory() -> None:
    array = np.arange(6, dtype=np.int64).reshape(2, 3)
    assert digest(np.asfortranarray(array)) == digest(array) != digest(array.T)


def test_json_values_may_be_named_in_any_order() -> None:
    value = {"b": 1, "a": [1.5, None]}
    assert json_digest(value) == hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]
    turned = {"a": [1.5, None], "b": 1}
    assert json_digest(value) != json_digest(turned)
    assert json_digest(value, sort_keys=True, length=12) == json_digest(turned, sort_keys=True, length=12)


def test_contents_are_told_apart() -> None:
    assert bytes_digest(b"abc") == hashlib.blake2b(b"abc", digest_size=16).digest()
    assert len({number_digest(bytes([i])) for i in range(256)}) == 256
    assert np.array([number_digest(bytes([i])) for i in range(256)], np.int64).min() < 0  # all 64 bits
    assert file_digest(io.BytesIO(b"abc")) == hashlib.sha256(b"abc").hexdigest()


def test_names_that_are_no_text_are_told_apart() -> None:
    assert digest("a\udcdf") != digest("a\udce0")
    assert digest("\ud800") != digest("")
