"""What passes from a source to the loop: the readings that every source and every part rely on."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune_device.journal.journal import Journal
from edgeprune_device.stream import Block, Notice


def test_a_block_of_a_file_has_no_losses_no_moment_and_no_backlog() -> None:
    block = Block(np.zeros(3, np.float32))
    assert (block.lost_samples, block.heard_at, block.backlog_seconds) == (0, None, 0.0)
    assert block.reason  # a loss always has a name


@pytest.mark.parametrize(("held", "field"), [(Block(np.zeros(1, np.float32)), "lost_samples"),
                                             (Notice("kind", "Text."), "kind")])  # fmt: skip
def test_what_was_handed_over_is_not_changed_afterwards(held: Any, field: str) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(held, field, "other")


def test_notices_do_not_share_their_details() -> None:
    one, other = Notice("a", "A."), Notice("b", "B.")
    assert one.details == {}
    assert one.details is not other.details


def test_a_notice_is_an_event_of_the_journal_word_for_word(tmp_path: Path) -> None:
    notice = Notice("microphone-lost", "It is gone: “usb”.", {"name": "usb", "seconds": 2.5})
    with Journal(tmp_path / "j", "b", "d", "s", live=True, rate=1,
                 clock=lambda: datetime(2026, 5, 1, tzinfo=UTC)) as book:  # fmt: skip
        book.event(notice, 7)
        found = book._store._database.execute("SELECT kind, text, details, sample FROM events")
        assert found.fetchall() == [
            ("microphone-lost", "It is gone: “usb”.", '{"name": "usb", "seconds": 2.5}', 7)
        ]
        book.close({})
