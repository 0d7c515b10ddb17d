"""Detection of words in a stream: test clips within background sound, through ``listen``.

    python benchmarks/stream.py BUNDLE DATA -o OUT --background esc10/labels.csv

Clips of the test split are placed at random times, at least two seconds apart, in a sequence of
background clips (or in coloured noise). ``edgeprune listen --from-wav`` processes the file; its
journal is compared with the truth. Writes stream.flac, stream.csv, a journal, stream.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from edgeprune.core.console import Silent
from edgeprune.core.tables import table, to_text
from edgeprune.data.augment import coloured_noise
from edgeprune_calibration.dataset import read_data
from edgeprune_calibration.event_matching import Event, Outcome, match, read_detections, write_truth
from edgeprune_calibration.manifest import Clip
from edgeprune_calibration.splits import split_clips
from edgeprune_device.audio.sound_files import read_clip
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.recorder.listen import listen

GAP_SECONDS = (2.0, 6.0)
CROSSFADE_SECONDS = 0.25
PEAK = 0.7


def main() -> None:
    """Make the stream, run listen, count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--label", default="label")
    parser.add_argument("--background", type=Path, help="Manifest of background clips.")
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--snr", type=float, nargs="+", default=[20.0, 10.0, 5.0], help="dB")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rate = read_bundle(options.bundle).sample_rate
    clips = split_clips(read_data(options.data, options.label))["test"]
    options.out.mkdir(parents=True, exist_ok=True)
    rows, results = [], []
    for snr in options.snr:
        generator = np.random.default_rng([options.seed, round(10 * snr) + 1000])
        chosen = [clips[i] for i in generator.permutation(len(clips))[: options.clips]]
        sound, truth = make_stream(chosen, options.background, rate, snr, generator)
        folder = options.out / f"snr-{snr:g}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        write(folder, sound, truth, rate)
        stats = listen(options.bundle, folder / "journal", source="wav", say=Silent().say,
                       from_wav=folder / "stream.flac")  # fmt: skip
        seconds = len(sound) / rate
        found = match(read_detections(folder / "journal"), truth, seconds)
        silence, _ = make_stream([], options.background, rate, snr, generator, seconds)
        write(folder, silence, [], rate, "background")
        listen(options.bundle, folder / "journal-background", source="wav", say=Silent().say,
               from_wav=folder / "background.flac")  # fmt: skip
        alone = match(read_detections(folder / "journal-background"), [], seconds)
        rows.append(line(snr, found, alone))
        results.append({"snr_db": snr, "clips": len(chosen), "seconds": seconds,
                        **asdict(found), "recall": found.recall, "precision": found.precision,
                        "false_alarms_per_hour": found.false_alarms_per_hour,
                        "background_alone": alone.false_alarms_per_hour,
                        "real_time_factor": stats["real_time_factor"]})  # fmt: skip
    headers = ("SNR", "hits", "misses", "false alarms", "of them another word", "recall",
               "precision", "false alarms/h", "background alone/h")  # fmt: skip
    print(to_text(table(headers, rows)))
    (options.out / "stream.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")


def line(snr: float, found: Outcome, alone: Outcome) -> tuple[str, ...]:
    """Return a row of the table."""
    return (
        f"{snr:g} dB", str(found.hits), str(found.misses), str(found.false_alarms),
        str(found.confusions), f"{100 * found.recall:.1f} %", f"{100 * found.precision:.1f} %",
        f"{found.false_alarms_per_hour:.0f}", f"{alone.false_alarms_per_hour:.0f}",
    )  # fmt: skip


def make_stream(
    clips: Sequence[Clip], background: Path | None, rate: int, snr: float,
    generator: np.random.Generator, seconds: float = 0.0,
) -> tuple[NDArray[np.float32], list[Event]]:  # fmt: skip
    """Place clips in background sound; return the sound and the events.

    The level of the background is relative to the loudest tenth of a second of each clip's own
    sound, averaged over the clips.
    """
    sounds = [read_clip(c.path, rate, c.start_seconds, c.end_seconds) for c in clips]
    gaps = generator.uniform(*GAP_SECONDS, len(clips) + 1)
    length = round(max(seconds, sum(gaps) + sum(len(s) for s in sounds) / rate) * rate)
    place = background_of(background, length, rate, generator)
    place *= 10 ** (-snr / 20) * PEAK / 4
    truth, position = [], 0
    for clip, sound, gap in zip(clips, sounds, gaps, strict=False):
        position += round(gap * rate)
        loud = loudest(sound, rate)
        place[position : position + len(sound)] += sound * (PEAK / 4 / max(loud, 1e-4))
        first, last = extent(sound)
        truth.append(Event(clip.label, (position + first) / rate, (position + last) / rate))
        position += len(sound)
    return (place / max(1.0, float(np.abs(place).max()))).astype(np.float32), truth


def background_of(
    source: Path | None, length: int, rate: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return background of unit power: clips of a manifest, or coloured noise."""
    sound = np.zeros(length + rate)
    fade = round(CROSSFADE_SECONDS * rate)
    ramp = np.sin(np.linspace(0, np.pi / 2, fade))
    clips = read_data(source).clips if source else ()
    position = 0
    while position < length:
        if clips:
            piece = read_clip(clips[generator.integers(len(clips))].path, rate).astype(float)
        else:
            seeded = torch.Generator().manual_seed(int(generator.integers(2**31)))
            piece = coloured_noise(1, 5 * rate, seeded)[0].numpy().astype(float)
        piece = np.trim_zeros(piece)[: len(sound) - position]
        if len(piece) < 4 * fade:
            continue
        piece /= max(1e-6, float(np.sqrt(np.mean(piece**2))))
        piece[:fade] *= ramp
        piece[-fade:] *= ramp[::-1]
        sound[position : position + len(piece)] += piece
        position += len(piece) - fade
    return sound[:length]


def loudest(sound: NDArray[np.float32], rate: int) -> float:
    """Return the root mean square of the loudest tenth of a second."""
    power = np.convolve(sound.astype(float) ** 2, np.ones(rate // 10) / (rate // 10), "same")
    return float(np.sqrt(power.max()))


def extent(sound: NDArray[np.float32]) -> tuple[int, int]:
    """Return the start and end of a clip's sound: 25 dB below its peak."""
    over = np.flatnonzero(np.abs(sound) > np.abs(sound).max() * 10 ** (-25 / 20))
    return int(over[0]), int(over[-1]) + 1


def write(
    folder: Path, sound: NDArray[np.float32], truth: Sequence[Event], rate: int,
    name: str = "stream",
) -> None:  # fmt: skip
    """Write a stream and its events."""
    soundfile.write(folder / f"{name}.flac", sound, rate)
    write_truth(folder / f"{name}.csv", truth)


if __name__ == "__main__":
    main()
