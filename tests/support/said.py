"""What a stage says to a person, kept line by line."""

from __future__ import annotations

from edgeprune.core.console import Silent


class Lines(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    @property
    def text(self) -> str:
        return "\n".join(self.said)
