"""Speech privacy: finds speech by the model's labels and by silero VAD, and blocks clips with it.

    Spans    spans of stream time
    Speech   where speech was found, what is known to have none, and which clips may be kept

The rule fails closed. It checks the scores of all labels, not only of the best or the best ten; an
unknown label is rejected at the start; audio that was lost, invalid or never analysed may have had
speech. Detections are still reported: only the audio is not kept.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.bundle.reader import Bundle
from edgeprune_device.detection.decision_rule import known_labels
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.temperature import apply_temperature
from edgeprune_device.settings import Privacy

MOST_SPANS = 10_000  # kept of each kind; anything older is unknown


class Spans:
    """Spans of stream time, joined where they touch; the oldest are forgotten."""

    def __init__(self) -> None:
        self.forgotten = 0
        """End of the last forgotten span."""
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    @property
    def end(self) -> int:
        """End of the last span; 0 if there is none."""
        return self._lasts[-1] if self._lasts else self.forgotten

    def add(self, first: int, last: int) -> None:
        """Add a span, half-open."""
        if first >= last:
            return
        low, high = bisect_left(self._lasts, first), bisect_right(self._firsts, last)
        if low < high:
            first, last = min(first, self._firsts[low]), max(last, self._lasts[high - 1])
        self._firsts[low:high], self._lasts[low:high] = [first], [last]
        if len(self._firsts) > MOST_SPANS:
            self.forgotten = self._lasts[0]
            del self._firsts[0], self._lasts[0]

    def touch(self, first: int, last: int) -> bool:
        """Return whether a span overlaps any of these."""
        index = bisect_right(self._lasts, first)
        return first < last and index < len(self._firsts) and self._firsts[index] < last

    def cover(self, first: int, last: int) -> bool:
        """Return whether a span is completely inside these."""
        index = bisect_right(self._lasts, first)
        inside = index < len(self._firsts) and self._firsts[index] <= first
        return first >= last or (inside and last <= self._lasts[index])


@dataclass(frozen=True)
class SpeechRule:
    """What counts as speech."""

    labels: tuple[int, ...]
    """Indices of the labels that mean speech."""
    threshold: float
    """Score from which a window counts as speech."""
    vad: bool
    """Every sample must also have been analysed by the voice activity detector."""
    vad_threshold: float
    margin_samples: int
    """Speech this close to a clip counts."""
    activation: str
    temperature: float


def speech_rule(bundle: Bundle, privacy: Privacy) -> SpeechRule:
    """Return the speech rule of a bundle and a recorder's settings; their labels are combined.

    Raises
    ------
    EdgepruneError
        A label that the bundle does not have; labels for a bundle with transcripts.

    """
    if privacy.labels and bundle.activation == "ctc":
        raise EdgepruneError(
            f"privacy.labels does not apply to the transcripts of {bundle.name}.",
            "Use privacy.vad instead.",
        )
    known_labels(bundle, privacy.labels, "privacy.labels")
    own = bundle.manifest.get("privacy", {}).get("labels", [])
    named = {*own, *privacy.labels}
    return SpeechRule(
        tuple(i for i, label in enumerate(bundle.labels) if label in named), privacy.threshold,
        privacy.vad, privacy.vad_threshold, round(privacy.margin_seconds * bundle.sample_rate),
        bundle.activation, bundle.temperature,
    )  # fmt: skip


class SpeechTracker:
    """Remembers where there was speech.

    Parameters
    ----------
    rule : SpeechRule

    """

    def __init__(self, rule: SpeechRule) -> None:
        self.rule = rule
        self.on = bool(rule.labels) or rule.vad
        """Whether anything is ever blocked."""
        self._voices, self._unknown, self._heard = Spans(), Spans(), Spans()
        self._ended: int | None = None

    def window(self, first: int, last: int, scores: NDArray[np.float32]) -> bool:
        """Take a window's scores as the model returned them; return whether it may have speech.

        For labels that exclude each other the scores of speech are summed; for tags the highest
        counts. A score that is not finite makes the window unknown.

        Parameters
        ----------
        first, last : int
            Samples of stream time, half-open.
        scores : array (labels,)

        """
        if not self.rule.labels:
            return False
        if not np.isfinite(scores).all():
            self.unknown(first, last)
            return True
        sure = apply_temperature(scores, self.rule.temperature, self.rule.activation)[
            list(self.rule.labels)
        ]
        score = sure.sum() if self.rule.activation == "softmax" else sure.max()
        return self._take(first, last, bool(score >= self.rule.threshold), not self.rule.vad)

    def voice(self, first: int, last: int, probability: float | None) -> bool:
        """Take the voice activity detector's probability for a span; None and NaN: unknown."""
        if not self.rule.vad:
            return False
        if probability is None or not np.isfinite(probability):
            self.unknown(first, last)
            return True
        return self._take(first, last, probability >= self.rule.vad_threshold, True)

    def unknown(self, first: int, last: int) -> None:
        """Take a span that was lost, dropped or invalid."""
        if self.on:
            self._unknown.add(first, last)

    def end(self, position: int) -> None:
        """Note that the stream ended: there is no speech after ``position``."""
        self._ended = position

    def blocked(self, first: int, last: int) -> bool | None:
        """Return whether a clip must not be kept; None if what follows it is not known yet.

        Blocked is a clip with speech in it or within the margin, and one of which any sample,
        including the margin, was not analysed: by the voice activity detector if the rule requires
        it, otherwise by the model.
        """
        if not self.on:
            return False
        low, high = max(0, first - self.rule.margin_samples), last + self.rule.margin_samples
        if self._ended is not None:
            high = min(high, self._ended)
        spans = (self._voices, self._unknown, self._heard)
        if low < max(s.forgotten for s in spans) or any(s.touch(low, high) for s in spans[:2]):
            return True
        if self._heard.cover(low, high):
            return False
        waiting = self._ended is None and max(self._heard.end, self._unknown.end) < high
        return None if waiting else True

    def _take(self, first: int, last: int, speaks: bool, counts: bool) -> bool:
        if speaks:
            self._voices.add(first, last)
        if counts:
            self._heard.add(first, last)
        return speaks
