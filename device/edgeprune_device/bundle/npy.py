"""Converts arrays to and from ``.npy`` bytes: finite float32 only, never a pickle."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray


def to_npy(array: NDArray[np.float32]) -> bytes:
    """Return an array as the content of a ``.npy`` file."""
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array, dtype=np.float32), allow_pickle=False)
    return buffer.getvalue()


def from_npy(data: bytes) -> NDArray[np.float32]:
    """Return the array of a ``.npy`` file.

    Raises
    ------
    ValueError
        It is not an array of finite float32; the message is the end of a sentence.

    """
    try:
        array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # a hostile header can make numpy raise almost anything
        raise ValueError(f"is not an array ({error})") from None
    if array.dtype != np.float32 or not np.isfinite(array).all():
        raise ValueError("is not finite float32")
    return np.asarray(array)
