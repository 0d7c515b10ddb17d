"""Settings of the stages that make the deployed file and measure it; the rest is in ``settings``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Export:
    """Write the float ONNX or TFLite files."""

    formats: tuple[str, ...] = ("onnx",)
    """``onnx``, ``tflite``, or both; of both, the faster one becomes the bundle."""
    together: bool = False
    """Both formats in one bundle; each board uses the one that is faster there. Thresholds are
    those of the one that is faster here."""
    opset: int = 18
    """ONNX operator set."""


@dataclass(frozen=True)
class Quantize:
    """Make the deployed file, and the decision rule that goes with it."""

    method: str = "auto"
    """``dynamic``, ``weights``, ``weights4``, ``half``, ``static`` or ``none``; ``auto`` tries
    dynamic, weights and none and delivers the best."""
    target: str = "here"
    """Processor that ``auto`` and the choice of a format are for: ``pi4``, ``pi5``, ``x86``, by
    counted instructions; ``here``: by time measured on this machine."""
    max_loss: float = 0.005
    """Largest loss of the validation score against the float file that ``auto`` accepts, as a
    share."""
    try_clips: int = 400
    """Largest number of validation windows on which the files are compared."""
    calibrate: str = "mse"
    """How ranges of ``static`` are chosen: ``minmax``, ``percentile``, ``entropy`` or ``mse``."""
    calibration_clips: int = 100
    """Training windows that the ranges come from."""
    recover_epochs: int = 0
    """Epochs of quantization-aware training where simulated int8 loses more than ``max_loss``; 0:
    none."""
    hop_seconds: float = 0.0
    """Time between windows on the recorder; 0: a quarter of the window."""
    incremental: str = "auto"
    """Also deliver the ONNX file in two halves, so that overlapping windows share frames: ``auto``
    (where that is exact, and faster here at the bundle's hop), ``on`` or ``off``."""
    precision: float = 0.95
    """Each threshold is the lowest that reaches this precision on validation clips (for classes,
    also on windows without any label)."""
    smoothing_windows: int = 2
    """Scores are averaged over this many windows before the threshold."""
    refractory_seconds: float = 1.0
    """A label that was just reported is not reported again for this long."""
    ignore: tuple[str, ...] = ("background", "noise", "silence", "unknown", "_background_noise_",
                               "_silence_", "_unknown_")  # fmt: skip
    """Background labels: never reported by the recorder, where the data has them."""


@dataclass(frozen=True)
class Bench:
    """Measure latency on this machine."""

    threads: tuple[int, ...] = (1, 2)
    """Numbers of threads to measure."""
    seconds: float = 3.0
    """Measuring time per file, number of threads and round."""
    rounds: int = 5
    """Rounds in which all files are measured in turn."""
