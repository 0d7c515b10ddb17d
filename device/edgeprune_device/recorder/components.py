"""A session's parts, made from a bundle and a recorder's settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgeprune_device.audio.windowing import Windower
from edgeprune_device.bundle.reader import Bundle
from edgeprune_device.clips.clip_recorder import DELAY_SECONDS, ClipRecorder
from edgeprune_device.detection.activity_gate import ActivityGate
from edgeprune_device.detection.decider import Decider
from edgeprune_device.detection.decision_rule import rule_of
from edgeprune_device.detection.speech_privacy import Speech, speech_rule
from edgeprune_device.detection.vad import open_vad
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.choose_variant import Picked
from edgeprune_device.inference.incremental import open_incremental
from edgeprune_device.journal.coverage import CoverageLedger
from edgeprune_device.monitoring.score_checks import ScoreGuard
from edgeprune_device.monitoring.signal_health import Health
from edgeprune_device.monitoring.terminal import Screen
from edgeprune_device.recorder.load_shedding import Shedder
from edgeprune_device.recorder.loop import Components, Model
from edgeprune_device.settings import Settings
from edgeprune_device.stream import Notice

MOST_MERGE_SECONDS = 300.0
"""Of sound that is held for the clips of events that are merged: 29 MB at 48 kHz."""


def make_parts(
    picked: Picked, settings: Settings, out: Path, screen: Screen, *,
    timed: Callable[[float], None],
) -> Components:  # fmt: skip
    """Make what a session is made of.

    Parameters
    ----------
    picked : Picked
        The bundle's model, opened.
    settings : Settings
    out : Path
        The journal's folder, where clips go; it need not exist yet unless clips are kept.
    screen : Screen
    timed : callable
        As in ``Parts``.

    Raises
    ------
    EdgepruneError
        Settings that do not fit the bundle.

    """
    read = picked.bundle
    rate, window, hop = read.sample_rate, read.window_samples, hop_of(read, settings)
    model, forget, news = _model(picked, settings.operate.threads, hop)
    vad = open_vad(settings, rate)
    rule = rule_of(read, settings.decide)
    return Components(
        model=model, forget=forget, windower=Windower(window, hop), decider=Decider(rule),
        ledger=CoverageLedger(), health=Health(rate),
        guard=ScoreGuard(rule.activation, read.labels, rule.ignore),
        vad=vad, gate=ActivityGate(settings.gate, rate, vad),
        speech=Speech(speech_rule(read, settings.privacy)),
        clips=ClipRecorder(settings.clips, out, rate, digest=read.digest,
                           delay_seconds=DELAY_SECONDS + min(rule.merge_seconds, MOST_MERGE_SECONDS)),
        shedder=Shedder(settings.load, window // hop), screen=screen, timed=timed, news=news,
    )  # fmt: skip


def hop_of(bundle: Bundle, settings: Settings) -> int:
    """Return the samples from one window to the next.

    Raises
    ------
    EdgepruneError
        It is less than one.

    """
    if settings.decide.hop_seconds is None:
        return bundle.hop_samples
    hop = round(settings.decide.hop_seconds * bundle.sample_rate)
    if hop < 1:
        raise EdgepruneError(
            f"A hop of {settings.decide.hop_seconds:g} s is less than a sample at "
            f"{bundle.sample_rate} Hz."
        )
    return hop


def _model(
    picked: Picked, threads: int, hop: int
) -> tuple[Model, Callable[[], None], tuple[Notice, ...]]:
    """Return what scores a window by its place, what tells it that the stream broke off, and news.

    Where the bundle can, a window's frames that an earlier one had are not computed again.
    """
    news: tuple[Notice, ...] = ()
    try:
        if (kept := open_incremental(picked.bundle, threads, hop)) is not None:
            return kept, kept.gap, news
    except (
        EdgepruneError
    ) as error:  # the whole model is right here: its golden outputs were checked
        text = f"Frames are not kept from window to window: {error}"
        news = (Notice("incremental-refused", text),)
    return lambda _first, window: picked.run(window), lambda: None, news
