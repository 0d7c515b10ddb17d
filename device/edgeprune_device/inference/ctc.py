"""CTC decoding with numpy: posteriors of frames to tokens to text, and text to tokens.

Connectionist temporal classification (Graves et al. 2006), greedy decoding: the most likely label
of every frame is taken, repeats are merged, and blanks (label 0) are removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLANK = 0
BLANK_NAME = "<pad>"  # as in Hugging Face's vocabularies
SPACE = "|"  # a space among characters, as in Hugging Face's vocabularies


@dataclass(frozen=True)
class Transcript:
    """Decoded transcript of one window."""

    tokens: tuple[str, ...]
    score: float
    """Mean posterior of the frames that are not blank, 0 to 1; 0 if all are blank."""


def decode_greedy(
    scores: NDArray[np.float32], labels: Sequence[str], kind: str = "characters"
) -> Transcript:
    """Decode a window greedily.

    Parameters
    ----------
    scores : array (frames, labels)
        Posteriors, or any monotonic function of them (the score then has no meaning).
    labels : sequence of str
        Of characters, names in angle brackets (``<s>``, ``<unk>``) are special tokens and are left
        out; a word may be written like that (``<sil>``).
    kind : str
        ``characters`` or ``words``: what a label is.

    Returns
    -------
    Transcript

    """
    best = scores.argmax(axis=1)
    spoken = best != BLANK
    if not spoken.any():
        return Transcript((), 0.0)
    said = (labels[i] for i in merge(best))
    tokens = tuple(label for label in said if kind == "words" or not is_special(label))
    return Transcript(tokens, float(scores[spoken, best[spoken]].mean()))


def merge(best: NDArray[np.integer]) -> NDArray[np.integer]:
    """Merge repeats in a path of labels (frames,) and remove blanks."""
    first = np.ones(len(best), dtype=bool)
    first[1:] = best[1:] != best[:-1]
    return np.asarray(best[first & (best != BLANK)])


def is_special(label: str) -> bool:
    """Return whether a label of characters is a special token of the vocabulary (``<s>``)."""
    return len(label) > 2 and label[0] == "<" and label[-1] == ">"


def to_tokens(text: str, kind: str) -> tuple[str, ...]:
    """Split a transcript into tokens; runs of spaces are one, case is kept.

    Parameters
    ----------
    text : str
    kind : str
        ``characters``: each character, a space as ``|``; ``words``: each word between spaces.

    """
    words = text.split()
    return tuple(words) if kind == "words" else tuple(SPACE.join(words))


def to_text(tokens: Sequence[str], kind: str) -> str:
    """Join tokens to a transcript: the inverse of ``to_tokens``; repeated spaces are merged."""
    if kind == "words":
        return " ".join(tokens)
    return " ".join("".join(tokens).replace(SPACE, " ").split())
