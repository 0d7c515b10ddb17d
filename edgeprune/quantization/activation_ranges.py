"""What a static quantizer must know of activations: the range of each, from calibration clips.

The clips are checked first: ranges of silence or of NaN would make a file that answers nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from edgeprune_calibration.clipping_ranges import METHODS, NOTHING, Range, Tally, add
from edgeprune_device.errors import EdgepruneError

CHOICE = "mse"
QUIETEST = 2.0**-15  # one step of 16-bit sound


def checked(clips: NDArray[np.float32], window_samples: int) -> NDArray[np.float32]:
    """Return calibration windows as they are, once they are found to be of use.

    Parameters
    ----------
    clips : array of float32, (n, window)
        -1 to 1.
    window_samples : int
        Samples that the file takes.

    Raises
    ------
    EdgepruneError
        There is none, one has another length, one is not of finite numbers, or all are silent.

    """
    hint = "Give the calibration set clips of what the recorder will hear."
    if clips.ndim != 2 or not len(clips):
        raise EdgepruneError("There are no calibration clips to take ranges from.", hint)
    if clips.shape[1] != window_samples:
        raise EdgepruneError(
            f"Calibration clips have {clips.shape[1]} samples, the model's window {window_samples}.",
            "Cut them to the window.",
        )
    if bad := int((~np.isfinite(clips).all(axis=1)).sum()):
        raise EdgepruneError(
            f"{bad} of {len(clips)} calibration clips hold NaN or infinity.", "Leave them out."
        )
    if np.abs(clips).max() < QUIETEST:
        raise EdgepruneError(f"All {len(clips)} calibration clips are silent.", hint)
    return np.asarray(clips, dtype=np.float32)


def check_choice(calibrate: str) -> None:
    """Raise if there is no such way to choose ranges.

    Parameters
    ----------
    calibrate : str
        Should be a key of ``ranges.METHODS``.

    """
    if calibrate not in METHODS:
        raise EdgepruneError(
            f"{calibrate!r} is not a way to choose ranges.",
            f"Choose one of {', '.join(METHODS)}.",
        )


def ranges_of(
    heard: Iterable[Mapping[str, NDArray[np.float32]]], calibrate: str
) -> dict[str, Range]:
    """Return the range of every activation.

    Parameters
    ----------
    heard : iterable of dict
        For each clip: name of an activation to its values.
    calibrate : str
        A key of ``ranges.METHODS``.

    Raises
    ------
    EdgepruneError
        An activation is not finite.

    """
    known: dict[str, Tally] = {}
    for values in heard:
        for name, value in values.items():
            known[name] = add(known.get(name, NOTHING), value)
    return {name: METHODS[calibrate](tally) for name, tally in known.items() if tally.count}
