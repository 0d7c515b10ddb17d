"""The one error type: a sentence, what to do about it, and the status that the command ends with."""

from __future__ import annotations

import traceback

import pytest

from edgeprune_device.errors import BAD_INPUT, FAILED_CHECK, NOT_INSTALLED, EdgepruneError


def test_an_error_is_its_sentence_and_bad_input_unless_it_says_otherwise() -> None:
    error = EdgepruneError("There is no bundle at x.")
    assert (str(error), error.hint, error.status) == ("There is no bundle at x.", "", BAD_INPUT)
    other = EdgepruneError("It differs.", "Make it again.", FAILED_CHECK)
    assert (str(other), other.hint, other.status) == ("It differs.", "Make it again.", FAILED_CHECK)


def test_a_traceback_in_python_ends_with_the_hint() -> None:
    shown = traceback.format_exception_only(EdgepruneError("It differs.", "Make it again."))
    assert "".join(shown).endswith("It differs.\nHint: Make it again.\n")
    assert "Hint" not in "".join(traceback.format_exception_only(EdgepruneError("It differs.")))


def test_statuses_are_those_that_scripts_and_the_documentation_rely_on() -> None:
    assert (FAILED_CHECK, BAD_INPUT, NOT_INSTALLED) == (1, 2, 3)


def test_it_is_caught_as_an_error_and_never_ends_the_program_by_itself() -> None:
    assert issubclass(EdgepruneError, Exception)
    assert not issubclass(EdgepruneError, SystemExit | OSError | ValueError)
    with pytest.raises(EdgepruneError) as caught:
        raise EdgepruneError("One sentence.", "A hint.") from ValueError("cause")
    assert isinstance(caught.value.__cause__, ValueError)
