"""The arguments of ``edgeprune listen``, and how its bundle is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.inference.choose_variant import STORE, ChosenVariant, choose_variant
from edgeprune_device.monitoring.terminal import Say
from edgeprune_device.recorder.source import SourceKind
from edgeprune_device.settings import Settings


@dataclass(frozen=True)
class SessionPlan:
    """Arguments that are the same for each session of a recorder."""

    bundle: Path
    """A bundle, or the ``current`` of a store."""
    out: Path
    """Folder of the journal."""
    settings: Settings
    source: SourceKind
    from_wav: Path | None
    """Sound file, if the source is one."""
    seconds: float | None
    """Stop after this much audio."""
    wait: bool
    """Whether to wait for a microphone that is absent at the start."""
    say: Say

    @property
    def live(self) -> bool:
        """Whether the audio has a time of day."""
        return self.source != "wav"

    @property
    def name(self) -> str:
        """Name of the source, for the journal."""
        if self.source == "wav":
            return self.from_wav.name if self.from_wav else ""
        if self.source == "stdin":
            return "stdin"
        return f"microphone {self.settings.audio.device or 'default'}"


def open_bundle(plan: SessionPlan, place: Path) -> ChosenVariant:
    """Read, check and open a bundle.

    Raises
    ------
    EdgepruneError
        It cannot be trusted, or has different scores on this machine.

    """
    read = read_bundle(place, plan.settings.security)
    picked = choose_variant(read, plan.settings.operate.threads, plan.out / STORE)
    if picked.sentence:
        plan.say(picked.sentence)
    return picked
