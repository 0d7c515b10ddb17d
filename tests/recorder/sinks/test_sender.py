"""Senders: a receiver's address as a digest, and the two ways in which a message does not arrive."""

from __future__ import annotations

from itertools import combinations

import pytest

from edgeprune_device.sinks.sender import NotSentError, Sender, target_of


def test_a_target_is_the_start_of_the_digest_of_its_parts() -> None:
    # printf 'example.org\n1883\nedgeprune' | sha256sum
    assert target_of("example.org", 1883, "edgeprune") == "3baabd37f0d57238"


def test_parts_are_not_run_together() -> None:
    parts = [("ab", "c"), ("a", "bc"), ("abc",), ("c", "ab"), ("ab", "c", "")]
    assert all(target_of(*a) != target_of(*b) for a, b in combinations(parts, 2))


def test_an_address_with_a_secret_in_it_cannot_be_read_from_its_target() -> None:
    target = target_of("https://example.org/hooks/s3cret")
    assert "s3cret" not in target
    assert len(target) == 16


@pytest.mark.parametrize("refused", [True, False])
def test_a_message_that_did_not_arrive_says_why_and_whether_to_try_again(refused: bool) -> None:
    error = NotSentError("nobody is there", refused=refused)
    assert (str(error), error.refused) == ("nobody is there", refused)
    assert NotSentError("nobody is there").refused is False


def test_a_sender_shows_no_state_unless_it_can() -> None:
    sent: list[object] = []
    sender = Sender("command", target_of("x"), sent.append, lambda: None)
    sender.send({"id": "a"})
    assert (sender.beat, sent) == (None, [{"id": "a"}])
