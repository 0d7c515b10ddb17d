"""Activation ranges for static quantization, from calibration clips.

The clips are checked first: ranges from silence or NaN would give a useless file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from edgeprune_calibration.clipping_ranges import METHODS, NOTHING, Range, Tally, add
from edgeprune_device.errors import EdgepruneError

CHOICE = "mse"
QUIETEST = 2.0**-15  # one quantization step of 16-bit audio


def checked(clips: NDArray[np.float32], window_samples: int) -> NDArray[np.float32]:
    """Return calibration windows after checking them.

    Parameters
    ----------
    clips : array of float32, (n, window)
        Samples from -1 to 1.
    window_samples : int
        Samples of the model's window.

    Raises
    ------
    EdgepruneError
        There are no clips, their length differs from the window, a value is not finite, or all are
        silent.

    """
    hint = "Use calibration clips of the sounds that the recorder will receive."
    if clips.ndim != 2 or not len(clips):
        raise EdgepruneError("There are no calibration clips for the activation ranges.", hint)
    if clips.shape[1] != window_samples:
        raise EdgepruneError(
            f"Calibration clips have {clips.shape[1]} samples, the model's window {window_samples}.",
            "Crop them to the window.",
        )
    if bad := int((~np.isfinite(clips).all(axis=1)).sum()):
        raise EdgepruneError(
            f"{bad} of {len(clips)} calibration clips contain NaN or infinity.", "Remove them."
        )
    if np.abs(clips).max() < QUIETEST:
        raise EdgepruneError(f"All {len(clips)} calibration clips are silent.", hint)
    return np.asarray(clips, dtype=np.float32)


def check_choice(calibrate: str) -> None:
    """Raise if a method for choosing ranges is not known.

    Parameters
    ----------
    calibrate : str
        Should be a key of ``clipping_ranges.METHODS``.

    """
    if calibrate not in METHODS:
        raise EdgepruneError(
            f"quantize.calibrate = {calibrate!r} is not known.",
            f"Known: {', '.join(METHODS)}.",
        )


def ranges_of(
    heard: Iterable[Mapping[str, NDArray[np.float32]]], calibrate: str
) -> dict[str, Range]:
    """Return the range of every activation.

    Parameters
    ----------
    heard : iterable of dict
        For each clip: name of an activation -> its values.
    calibrate : str
        A key of ``clipping_ranges.METHODS``.

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
