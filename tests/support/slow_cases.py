"""Products of cases, of which a few run every time and the others with the slow tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

OFTEN = ("wav2vec2", "wavlm", "audio-spectrogram-transformer", "whisper", "kwt", "cnn14",
         "edgeprune-student")  # fmt: skip
"""The families that run every time: one of each kind of front end and of layer stack."""


def some_of(cases: Iterable[Any], *often: Any) -> list[Any]:
    """Return all cases for ``pytest.mark.parametrize``, marked slow but for those named.

    Raises
    ------
    ValueError
        One that is named is no case: it was renamed, and nothing would run every time.

    """
    listed = list(cases)
    if unknown := [case for case in often if case not in listed]:
        raise ValueError(f"no case {unknown[0]!r} among {listed}")
    return [
        case if case in often
        else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for case in listed
    ]  # fmt: skip


def families(names: Iterable[str]) -> list[Any]:
    """Return names of families for ``parametrize``, marked slow but for those of ``OFTEN``."""
    listed = list(names)
    return some_of(listed, *(name for name in listed if name in OFTEN))
