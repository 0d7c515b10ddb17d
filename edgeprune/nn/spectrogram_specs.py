"""Specifications of spectrograms: the feature extraction of each family, as numbers.

One row per kind. A checkpoint's ``preprocessor_config.json`` may override some fields, and a
model's config stores the whole row (``edgeprune_frontend``). ``log_mel`` computes the features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from edgeprune_device.errors import EdgepruneError

KALDI_FLOOR = 1.192092955078125e-07  # epsilon of single precision, as in Kaldi


@dataclass(frozen=True)
class SpectrogramSpec:
    """Specification of one kind of log-mel features."""

    kind: str
    """Row of ``SPECS``."""
    ending: str
    """Final transformation of the logarithms: row of ``log_mel.ENDINGS``."""
    sampling_rate: int = 16000
    """Sample rate in Hz."""
    frame: int = 400
    """Samples per frame."""
    hop: int = 160
    """Samples from one frame to the next."""
    fft: int = 512
    """Length of the Fourier transform in samples; shorter frames are zero-padded."""
    window: str = "hann"
    """``hann`` or ``povey``."""
    periodic: bool = True
    """Whether the window is periodic (else symmetric)."""
    centred: bool = True
    """Whether frames are centred on the hops, with reflected edges (else they start there)."""
    preemphasis: float = 0.0
    """Pre-emphasis: share of the previous sample that is subtracted."""
    offset: bool = True
    """Whether a frame keeps its mean (DC offset)."""
    scale: float = 1.0
    """Factor on the samples (Kaldi: that of 16-bit integers)."""
    mels: int = 80
    """Number of mel filters."""
    lowest: float = 0.0
    """Lowest frequency of the filters in Hz."""
    highest: float = 8000.0
    """Highest frequency of the filters in Hz."""
    mel_scale: str = "slaney"
    """``slaney``, ``htk`` or ``kaldi`` (triangles that are straight on the mel scale)."""
    slaney_norm: bool = True
    """Whether all filters have the same area (Slaney normalization)."""
    floor: float = 1e-10
    """Least power; lower values are clamped before the logarithm."""
    log: str = "log10"
    """``ln``, ``log10`` or ``dB``."""
    mean: float = 0.0
    """Value subtracted from the logarithms (``scaled``)."""
    std: float = 0.5
    """Half of the value that they are divided by (``scaled``, as in AST)."""
    stride: int = 1
    """Number of frames that are concatenated (``stacked``)."""


_KALDI = SpectrogramSpec(
    "ast", "scaled", periodic=False, centred=False, preemphasis=0.97, offset=False, mels=128,
    lowest=20.0, mel_scale="kaldi", slaney_norm=False, floor=KALDI_FLOOR, log="ln",
    mean=-4.2677393, std=4.5689974,
)  # fmt: skip
SPECS: dict[str, SpectrogramSpec] = {
    "ast": _KALDI,
    "whisper": SpectrogramSpec("whisper", "clamped", fft=400),
    "seamless": replace(
        _KALDI, kind="seamless", ending="stacked", window="povey", scale=2.0**15, mels=80, stride=2
    ),
    "clap": SpectrogramSpec(
        "clap", "image", sampling_rate=48000, frame=1024, hop=480, fft=1024, mels=64,
        highest=14000.0, log="dB",
    ),
    "panns": SpectrogramSpec(
        "panns", "image", sampling_rate=32000, frame=1024, hop=320, fft=1024, mels=64, lowest=50.0,
        highest=14000.0, log="dB",
    ),
}  # fmt: skip

EXTRACTOR_FIELDS: dict[str, dict[str, tuple[str, ...]]] = {
    # field of preprocessor_config.json -> fields of the specification
    "ast": {"sampling_rate": ("sampling_rate",), "num_mel_bins": ("mels",), "mean": ("mean",),
            "std": ("std",)},
    "whisper": {"sampling_rate": ("sampling_rate",), "feature_size": ("mels",),
                "hop_length": ("hop",), "n_fft": ("frame", "fft")},
    "seamless": {"sampling_rate": ("sampling_rate",), "num_mel_bins": ("mels",),
                 "stride": ("stride",)},
    "clap": {"sampling_rate": ("sampling_rate",), "feature_size": ("mels",),
             "hop_length": ("hop",), "fft_window_size": ("frame", "fft"),
             "frequency_min": ("lowest",), "frequency_max": ("highest",)},
    "panns": {},
}  # fmt: skip


def spec_from_extractor(kind: str, stated: Mapping[str, Any]) -> SpectrogramSpec:
    """Return the specification of a kind with the values of a checkpoint's feature extractor.

    Parameters
    ----------
    kind : str
        Row of ``SPECS``.
    stated : mapping
        Content of ``preprocessor_config.json``; missing values are the family's defaults.

    """
    changes: dict[str, Any] = {
        field: stated[name]
        for name, names in EXTRACTOR_FIELDS[kind].items() if name in stated for field in names
    }  # fmt: skip
    if kind == "ast" and stated.get("do_normalize") is False:
        changes |= {"mean": 0.0, "std": 0.5}
    if kind in ("ast", "seamless") and "sampling_rate" in changes:
        changes["highest"] = changes["sampling_rate"] // 2
    if kind == "clap" and stated.get("truncation") == "fusion":
        changes |= {"mel_scale": "htk", "slaney_norm": False}
    return replace(SPECS[kind], **changes)


def spec_from_record(record: Mapping[str, Any]) -> SpectrogramSpec:
    """Return the specification stored in ``config.edgeprune_frontend``.

    Raises
    ------
    EdgepruneError
        It contains an unknown field or value, or lacks a field.

    """
    known = {field.name for field in fields(SpectrogramSpec)}
    row = SPECS.get(record.get("kind", ""))
    if row is None or set(record) != known or record["ending"] != row.ending:
        raise EdgepruneError(
            "The model's front end (edgeprune_frontend in its config.json) is not known to this "
            "version of edgeprune.",
            "Install the version of edgeprune that saved the model.",
        )
    return SpectrogramSpec(**record)


def record_of(spec: SpectrogramSpec) -> dict[str, Any]:
    """Return a specification as plain values, for the model's config."""
    return asdict(spec)
