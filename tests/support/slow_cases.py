"""Products of cases, of which a few run every time and the others with the slow tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


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
