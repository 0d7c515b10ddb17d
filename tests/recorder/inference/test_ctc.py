"""Greedy CTC decoding against every path, and transcripts to tokens and back."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest

from edgeprune_calibration.labels import tags_of, vocabulary
from edgeprune_device.inference.ctc import BLANK_NAME, decode_greedy, merge, to_text, to_tokens

LABELS = (BLANK_NAME, "|", "A", "B", "<unk>")


def test_repeats_are_merged_then_blanks_left_out() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        path = generator.integers(0, 4, 12)
        expected = [label for label, _ in groupby(path.tolist()) if label]
        assert merge(path).tolist() == expected


def frames(text: str) -> np.ndarray:
    """One frame a letter: '-' is the blank, small letters are less sure."""
    rows = []
    for letter in text:
        index = {"-": 0, "|": 1, "A": 2, "B": 3, "?": 4}[letter.upper()]
        row = [0.05] * 5
        row[index] = 0.5 if letter.islower() else 0.8
        rows.append(row)
    return np.array(rows, np.float32)


def test_a_letter_said_twice_needs_a_blank_between() -> None:
    assert decode_greedy(frames("-AA-A-B|B"), LABELS).tokens == ("A", "A", "B", "|", "B")


def test_the_score_is_the_mean_of_the_frames_that_speak() -> None:
    assert decode_greedy(frames("--Aa--"), LABELS).score == pytest.approx(0.65)
    silent = decode_greedy(frames("----"), LABELS)
    assert (silent.tokens, silent.score) == ((), 0.0)


def test_marks_of_a_vocabulary_are_no_text() -> None:
    assert decode_greedy(frames("A?B"), LABELS).tokens == ("A", "B")


def test_a_word_in_angle_brackets_is_heard_as_it_was_taught() -> None:
    """Phones of a corpus may be written so; of words, the blank alone is no token."""
    said = ("<sil>", "sh", "<unk>", "iy", "<sil>")
    labels = vocabulary([" ".join(said)], "words")
    path = [labels.index(token) for token in said]
    scores = np.eye(len(labels), dtype=np.float32)[np.repeat(path, 2)]
    assert decode_greedy(scores, labels, "words").tokens == said
    assert decode_greedy(scores, labels, "characters").tokens == ("sh", "iy")


@pytest.mark.parametrize(
    ("text", "kind", "tokens"),
    [
        ("She  had ", "characters", tuple("She|had")),
        ("h# sh iy", "words", ("h#", "sh", "iy")),
    ],
)
def test_transcripts_are_cut_into_tokens_and_written_again(
    text: str, kind: str, tokens: tuple[str, ...]
) -> None:
    assert to_tokens(text, kind) == tokens
    assert to_text(tokens, kind) == " ".join(text.split())


def test_what_a_model_stutters_between_words_is_one_space() -> None:
    assert to_text(("|", "|", "A", "|", "|", "B", "|"), "characters") == "A B"


def test_the_vocabulary_begins_with_the_blank_and_keeps_case() -> None:
    assert vocabulary(["aB a", "C"], "characters") == (BLANK_NAME, "B", "C", "a", "|")


def test_a_cell_of_tags_names_each_once() -> None:
    assert tags_of(" rain;dog ; rain;") == ("rain", "dog")
    assert tags_of("") == ()
