"""What a listener was asked for, and the bundle that this leads to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.inference.choose_variant import STORE, Picked, pick
from edgeprune_device.monitoring.terminal import Say
from edgeprune_device.recorder.source import SourceKind
from edgeprune_device.settings import Settings


@dataclass(frozen=True)
class SessionPlan:
    """The same for each session of a listener."""

    bundle: Path
    """A bundle, or a store's ``current``."""
    out: Path
    """The journal's folder."""
    settings: Settings
    source: SourceKind
    from_wav: Path | None
    """The file, where the source is one."""
    seconds: float | None
    """Stop after so much sound."""
    wait: bool
    """For a microphone that is not there at the start."""
    say: Say

    @property
    def live(self) -> bool:
        """Whether what is heard has a time of day."""
        return self.source != "wav"

    @property
    def name(self) -> str:
        """What is listened to, for the journal."""
        if self.source == "wav":
            return self.from_wav.name if self.from_wav else ""
        if self.source == "stdin":
            return "stdin"
        return f"microphone {self.settings.audio.device or 'default'}"


def open_bundle(plan: SessionPlan, place: Path) -> Picked:
    """Read, check and open a bundle.

    Raises
    ------
    EdgepruneError
        It cannot be trusted, or answers differently here.

    """
    read = read_bundle(place, plan.settings.security)
    picked = pick(read, plan.settings.operate.threads, plan.out / STORE)
    if picked.sentence:
        plan.say(picked.sentence)
    return picked
