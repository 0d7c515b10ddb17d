"""Settings of the stages that make the deployed file and measure it; the rest is in ``settings``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Export:
    """Write the float graphs."""

    formats: tuple[str, ...] = ("onnx",)
    """``onnx``, ``tflite``, or both; the faster of them becomes the bundle."""
    together: bool = False
    """Both formats in one bundle; the board picks the one that is faster there. Labels' thresholds
    are those of the one that is faster here."""
    opset: int = 18
    """ONNX operator set."""


@dataclass(frozen=True)
class Quantize:
    """Make the deployed file, and the decision rule that goes with it."""

    method: str = "auto"
    """How numbers are stored and multiplied (``methods``): ``dynamic``, ``weights``, ``weights4``,
    ``half``, ``static``, ``none``; ``auto`` tries dynamic, weights and none and delivers the best."""
    target: str = "here"
    """The processor that ``auto`` and the choice of a format are for: ``pi4``, ``pi5``, ``x86``, by
    counted instructions; ``here``: by what is measured on this machine."""
    max_loss: float = 0.005
    """Share of the validation score that ``auto`` may lose against the float file."""
    try_clips: int = 400
    """Validation windows at most on which the files are compared."""
    calibrate: str = "mse"
    """Ranges of ``static``: ``minmax``, ``percentile``, ``entropy`` or ``mse``."""
    calibration_clips: int = 100
    """Training windows that these come from."""
    recover_epochs: int = 0
    """Epochs of training under fake quantization where that loses more than ``max_loss``; 0: none."""
    hop_seconds: float = 0.0
    """Step between windows in the field; 0: a quarter of the window."""
    incremental: str = "auto"
    """Also deliver the ONNX file cut in two, so that overlapping windows share their frames:
    ``auto`` (where that is exact, and faster here at the bundle's hop), ``on`` or ``off``."""
    precision: float = 0.95
    """Each label's threshold is the lowest that reaches this on validation clips (classes: and on
    scraps that hold no label)."""
    smoothing_windows: int = 2
    """Scores are averaged over so many windows before the threshold."""
    refractory_seconds: float = 1.0
    """A label that was just reported stays quiet for so long."""
    ignore: tuple[str, ...] = ("background", "noise", "silence", "unknown", "_background_noise_",
                               "_silence_", "_unknown_")  # fmt: skip
    """Labels that the recorder never reports, where the data has them."""


@dataclass(frozen=True)
class Bench:
    """Measure latency here."""

    threads: tuple[int, ...] = (1, 2)
    """Thread counts to measure."""
    seconds: float = 3.0
    """Measuring time for each file, thread count and round."""
    rounds: int = 5
    """Rounds, 3 to 7, in which the files are measured in turn."""
