"""Kinds of spectrogram: what a family's feature extractor does, as numbers.

One row a kind; a checkpoint's ``preprocessor_config.json`` may state some fields otherwise, and a
model's config keeps the whole row (``edgeprune_frontend``). ``spectrograms.py`` computes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from edgeprune_device.errors import EdgepruneError

KALDI_FLOOR = 1.192092955078125e-07  # single precision's epsilon, as Kaldi has it


@dataclass(frozen=True)
class SpectrogramSpec:
    """How one kind of log-mel features is made."""

    kind: str
    """Row of ``SPECS``."""
    ending: str
    """What is done with the logarithms: row of ``ENDINGS``."""
    sampling_rate: int = 16000
    """In Hz."""
    frame: int = 400
    """Samples in a frame."""
    hop: int = 160
    """Samples from one frame to the next."""
    fft: int = 512
    """Samples of the Fourier transform; a shorter frame is filled with zeros."""
    window: str = "hann"
    """``hann`` or ``povey``."""
    periodic: bool = True
    """Whether the window's period is the frame (else it is symmetric)."""
    centred: bool = True
    """Whether a frame's middle is on the hop, the edges reflected (else its start is)."""
    preemphasis: float = 0.0
    """Share of the sample before that is subtracted."""
    offset: bool = True
    """Whether a frame keeps its mean."""
    scale: float = 1.0
    """Factor on the samples (Kaldi: 16-bit integers)."""
    mels: int = 80
    """Mel filters."""
    lowest: float = 0.0
    """The filters' lowest frequency in Hz."""
    highest: float = 8000.0
    """Their highest in Hz."""
    mel_scale: str = "slaney"
    """``slaney``, ``htk`` or ``kaldi`` (whose triangles are straight on the mel scale)."""
    slaney_norm: bool = True
    """Whether each filter has the same area."""
    floor: float = 1e-10
    """Least power before the logarithm."""
    log: str = "log10"
    """``ln``, ``log10`` or ``dB``."""
    mean: float = 0.0
    """Subtracted from the logarithms (``scaled``)."""
    std: float = 0.5
    """Half of what they are divided by (``scaled``, as AST writes it)."""
    stride: int = 1
    """Frames that become one (``stacked``)."""


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
    # preprocessor_config.json -> fields of the spec
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
    """Return a kind's spec as a checkpoint's feature extractor has it.

    Parameters
    ----------
    kind : str
        Row of ``SPECS``.
    stated : mapping
        ``preprocessor_config.json``; what it does not say is as the family usually has it.

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
    """Return the spec that ``config.edgeprune_frontend`` holds.

    Raises
    ------
    EdgepruneError
        It holds what this version does not know, or lacks something.

    """
    known = {field.name for field in fields(SpectrogramSpec)}
    row = SPECS.get(record.get("kind", ""))
    if row is None or set(record) != known or record["ending"] != row.ending:
        raise EdgepruneError(
            "The model's front end (edgeprune_frontend in its config.json) is not one that this "
            "edgeprune knows.",
            "Install the edgeprune that saved the model.",
        )
    return SpectrogramSpec(**record)


def record_of(spec: SpectrogramSpec) -> dict[str, Any]:
    """Return a spec as plain values, for the model's config."""
    return asdict(spec)
