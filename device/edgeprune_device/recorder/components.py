"""Creates the components of a session from a bundle and a recorder's settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgeprune_device.audio.windowing import Windower
from edgeprune_device.bundle.reader import Bundle
from edgeprune_device.clips.clip_recorder import DELAY_SECONDS, ClipRecorder
from edgeprune_device.detection.activity_gate import ActivityGate
from edgeprune_device.detection.decider import Decider
from edgeprune_device.detection.decision_rule import rule_of
from edgeprune_device.detection.speech_privacy import SpeechTracker, speech_rule
from edgeprune_device.detection.vad import open_vad
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.choose_variant import ChosenVariant
from edgeprune_device.inference.incremental import open_incremental
from edgeprune_device.journal.coverage import CoverageLedger
from edgeprune_device.monitoring.score_checks import ScoreChecker
from edgeprune_device.monitoring.signal_health import SignalHealth
from edgeprune_device.monitoring.terminal import TerminalOutput
from edgeprune_device.recorder.load_shedding import LoadShedder
from edgeprune_device.recorder.loop import Components, Model
from edgeprune_device.settings import Settings
from edgeprune_device.stream import Notice

MOST_MERGE_SECONDS = 300.0
"""Longest audio buffered for the clips of merged events: 29 MB at 48 kHz."""


def make_components(
    picked: ChosenVariant, settings: Settings, out: Path, screen: TerminalOutput, *,
    on_latency: Callable[[float], None],
) -> Components:  # fmt: skip
    """Create the components of a session.

    Parameters
    ----------
    picked : ChosenVariant
        The opened model of the bundle.
    settings : Settings
    out : Path
        Folder of the journal and of clips; it need not exist yet unless clips are saved.
    screen : TerminalOutput
    on_latency : callable
        As in ``Components``.

    Returns
    -------
    Components

    Raises
    ------
    EdgepruneError
        The settings do not fit the bundle.

    """
    read = picked.bundle
    rate, window, hop = read.sample_rate, read.window_samples, hop_of(read, settings)
    model, forget, news = _model(picked, settings.operate.threads, hop)
    vad = open_vad(settings, rate)
    rule = rule_of(read, settings.decide)
    return Components(
        model=model, reset_model=forget, windower=Windower(window, hop), decider=Decider(rule),
        ledger=CoverageLedger(), health=SignalHealth(rate),
        guard=ScoreChecker(rule.activation, read.labels, rule.ignore),
        vad=vad, gate=ActivityGate(settings.gate, rate, vad),
        speech=SpeechTracker(speech_rule(read, settings.privacy)),
        clips=ClipRecorder(settings.clips, out, rate, digest=read.digest,
                           delay_seconds=DELAY_SECONDS + min(rule.merge_seconds, MOST_MERGE_SECONDS)),
        shedder=LoadShedder(settings.load, window // hop), screen=screen, on_latency=on_latency, notices=news,
    )  # fmt: skip


def hop_of(bundle: Bundle, settings: Settings) -> int:
    """Return the hop between windows in samples.

    Raises
    ------
    EdgepruneError
        The hop is less than one sample.

    """
    if settings.decide.hop_seconds is None:
        return bundle.hop_samples
    hop = round(settings.decide.hop_seconds * bundle.sample_rate)
    if hop < 1:
        raise EdgepruneError(
            f"decide.hop_seconds = {settings.decide.hop_seconds:g} is less than one sample at "
            f"{bundle.sample_rate} Hz."
        )
    return hop


def _model(
    picked: ChosenVariant, threads: int, hop: int
) -> tuple[Model, Callable[[], None], tuple[Notice, ...]]:
    """Return the model by (first sample, window), a function that resets it, and notices.

    If the bundle supports it, frames shared with the previous window are not computed again.
    """
    news: tuple[Notice, ...] = ()
    try:
        if (kept := open_incremental(picked.bundle, threads, hop)) is not None:
            return kept, kept.gap, news
    except EdgepruneError as error:  # the complete model works: its golden outputs were checked
        text = f"Frames are not reused from window to window: {error}"
        news = (Notice("incremental-refused", text),)
    return lambda _first, window: picked.run(window), lambda: None, news
