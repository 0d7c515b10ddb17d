"""Whose voice is never kept: where somebody speaks, by the model's labels and by silero. Pure.

    Spans    stretches of stream time
    Speech   where there was a voice, what is known to hold none, and which clip may be kept

The rule fails closed. It looks at the scores of all labels, not of the best or the best ten; a
label that is named and not there is refused at the start; what was lost, invalid or never analysed
may have held a voice. Detections are reported all the same: it is the sound that is not kept.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.bundle.reader import Bundle
from edgeprune_device.detection.decision_rule import known_labels
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.temperature import temper
from edgeprune_device.settings import Privacy

MOST_SPANS = 10_000  # kept of each kind; what lies before is not known any more


class Spans:
    """Stretches of stream time, joined where they touch; the oldest are forgotten."""

    def __init__(self) -> None:
        self.forgotten = 0
        """End of the last stretch that was forgotten."""
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    @property
    def end(self) -> int:
        """End of the last stretch; 0 if there is none."""
        return self._lasts[-1] if self._lasts else self.forgotten

    def add(self, first: int, last: int) -> None:
        """Add a stretch, half-open."""
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
        """Return whether a sample of a stretch lies in any of these."""
        index = bisect_right(self._lasts, first)
        return first < last and index < len(self._firsts) and self._firsts[index] < last

    def cover(self, first: int, last: int) -> bool:
        """Return whether every sample of a stretch lies in these."""
        index = bisect_right(self._lasts, first)
        inside = index < len(self._firsts) and self._firsts[index] <= first
        return first >= last or (inside and last <= self._lasts[index])


@dataclass(frozen=True)
class SpeechRule:
    """What counts as a voice."""

    labels: tuple[int, ...]
    """Places of the labels of speech among the scores."""
    threshold: float
    """Score from which a window holds a voice."""
    vad: bool
    """Every sample must have been heard by the voice detector, too."""
    vad_threshold: float
    margin_samples: int
    """A voice so close to a clip counts."""
    activation: str
    temperature: float


def speech_rule(bundle: Bundle, privacy: Privacy) -> SpeechRule:
    """Return the rule of a bundle and a recorder's settings; their labels are taken together.

    Raises
    ------
    EdgepruneError
        A label that the bundle does not have; labels where there are transcripts.

    """
    if privacy.labels and bundle.activation == "ctc":
        raise EdgepruneError(
            f"privacy.labels names labels, and {bundle.name} makes transcripts.",
            "Set privacy.vad in their place.",
        )
    known_labels(bundle, privacy.labels, "privacy.labels")
    own = bundle.manifest.get("privacy", {}).get("labels", [])
    named = {*own, *privacy.labels}
    return SpeechRule(
        tuple(i for i, label in enumerate(bundle.labels) if label in named), privacy.threshold,
        privacy.vad, privacy.vad_threshold, round(privacy.margin_seconds * bundle.sample_rate),
        bundle.activation, bundle.temperature,
    )  # fmt: skip


class Speech:
    """Remembers where there was a voice.

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
        """Take a window's scores as the model gave them; return whether it may hold a voice.

        Of labels that exclude each other the scores of speech are added up; of tags the highest
        counts. A score that is no number makes the window unknown.

        Parameters
        ----------
        first, last : int
            Half-open, in stream time.
        scores : array (labels,)

        """
        if not self.rule.labels:
            return False
        if not np.isfinite(scores).all():
            self.unknown(first, last)
            return True
        sure = temper(scores, self.rule.temperature, self.rule.activation)[list(self.rule.labels)]
        score = sure.sum() if self.rule.activation == "softmax" else sure.max()
        return self._take(first, last, bool(score >= self.rule.threshold), not self.rule.vad)

    def voice(self, first: int, last: int, probability: float | None) -> bool:
        """Take what the voice detector says of a stretch; None and NaN: it does not know."""
        if not self.rule.vad:
            return False
        if probability is None or not np.isfinite(probability):
            self.unknown(first, last)
            return True
        return self._take(first, last, probability >= self.rule.vad_threshold, True)

    def unknown(self, first: int, last: int) -> None:
        """Take a stretch that was lost, dropped or invalid."""
        if self.on:
            self._unknown.add(first, last)

    def end(self, position: int) -> None:
        """Say that the stream ended: no voice comes after ``position``."""
        self._ended = position

    def blocked(self, first: int, last: int) -> bool | None:
        """Return whether a clip must not be kept; None: what comes after it is not known yet.

        Blocked is a clip with a voice in it or within the margin, and one of which, margin
        included, a sample was not analysed: by the voice detector if the rule asks for it, else by
        the model.
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
