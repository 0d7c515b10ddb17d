"""Content of a label cell by task: one class, several tags, or a transcript.

``classes``: the cell is the class. ``tags``: any number of tags, separated by ``;``; an empty cell
for none. ``ctc``: a transcript, split into characters or words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edgeprune_device.inference.ctc import BLANK_NAME, to_tokens

TAG_BORDER = ";"


@dataclass(frozen=True)
class LabelFormat:
    """How a task reads label cells."""

    may_be_empty: bool
    """Whether cells may be empty."""
    least_labels: int
    """Least number of labels in the data."""
    stratify_by: Callable[[str], tuple[str, ...]]
    """Cell -> strata that an automatic split distributes evenly; ("",) if there are none."""
    labels_of: Callable[[str, str], tuple[str, ...]]
    """(cell, kind of tokens) -> the labels in it, in order."""


def tags_of(cell: str) -> tuple[str, ...]:
    """Return the tags of a cell, each once, in the cell's order."""
    return tuple(dict.fromkeys(tag for part in cell.split(TAG_BORDER) if (tag := part.strip())))


def _class(cell: str, _: str = "") -> tuple[str, ...]:
    return (cell,)


LABEL_FORMATS: dict[str, LabelFormat] = {
    "classes": LabelFormat(False, 2, _class, _class),
    "tags": LabelFormat(
        True, 1, lambda cell: tags_of(cell) or ("",), lambda cell, _: tags_of(cell)
    ),
    "ctc": LabelFormat(False, 1, lambda _: ("",), to_tokens),
}


def vocabulary(transcripts: Iterable[str], kind: str) -> tuple[str, ...]:
    """Return a CTC model's labels: the blank, then every token of some transcripts, sorted.

    Parameters
    ----------
    transcripts : iterable of str
        Transcripts of the training clips.
    kind : str
        ``characters`` or ``words``.

    """
    found = {token for text in transcripts for token in to_tokens(text, kind)}
    return (BLANK_NAME, *sorted(found - {BLANK_NAME}))
