"""Arrays in a bundle: NumPy's own format, float32 and finite, and never a pickle."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune_device.bundle.npy import from_npy, to_npy


def saved(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,), (2, 0, 4)])
def test_numpy_reads_what_is_written_and_the_other_way_round(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    np.testing.assert_array_equal(np.load(io.BytesIO(to_npy(array))), array)
    np.testing.assert_array_equal(from_npy(saved(array)), array)


def test_what_is_written_is_float32_whatever_it_was() -> None:
    assert np.load(io.BytesIO(to_npy(np.array([1, 2])))).dtype == np.float32
    assert to_npy(np.array([0.1])) == saved(np.array([0.1], np.float32))


def header(shape: str) -> bytes:
    """Start an array file that claims a shape and holds nothing."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("data", "words"),
    [(header("(1000000000000000,)"), "is not an array"), (header("(((("), "is not an array"),
     (saved(np.array([{}], dtype=object), allow_pickle=True), "is not an array"),
     (pickle.dumps(np.zeros(3)), "is not an array"), (b"", "is not an array"),
     (saved(np.zeros(1000, np.float32))[:-1], "is not an array"),
     (saved(np.zeros(3)), "is not finite float32"), (saved(np.zeros(3, int)), "not finite float32"),
     (saved(np.array([1, np.nan], np.float32)), "is not finite float32"),
     (saved(np.array([np.inf], np.float32)), "is not finite float32")],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_anything_else_is_refused_as_the_end_of_a_sentence(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        from_npy(data)


@given(st.binary(max_size=200))
def test_any_bytes_behind_the_magic_give_an_array_or_that_error(tail: bytes) -> None:
    try:
        found = from_npy(b"\x93NUMPY" + tail)
    except ValueError as error:
        assert str(error).startswith(("is not an array", "is not finite"))  # noqa: PT017
    else:
        assert found.dtype == np.float32
