"""The children of one benchmark: started in their order, and summed up variant by variant."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune_device.bench_check import Extras
from edgeprune_device.bench_child import Round, run_child
from edgeprune_device.bench_sound import prepare
from edgeprune_device.bench_statistics import (
    memory_of,
    phases_of,
    round_orders,
    speedup,
    summarize,
    sustained_of,
    thread_text,
    timeline_of,
)
from edgeprune_device.bench_verdict import energy_of, pace_of, real_time
from edgeprune_device.bundle import read_bundle

SECONDS_PER_MINUTE = 60
Variant = tuple[int, int]
"""Place of a model file, and threads."""


class Run:
    """The children of one benchmark, and what they told."""

    def __init__(
        self, files: list[dict[str, Any]], paths: list[Path], threads: Sequence[int],
        seconds: float, extras: Extras, folder: Path, say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._files, self._paths, self._seconds = files, paths, seconds
        self._extras, self._folder, self._say = extras, folder, say
        self.variants: list[Variant] = [(i, count) for count in threads for i in range(len(files))]
        self._measured: dict[Variant, list[Round]] = {variant: [] for variant in self.variants}
        self._sustained: dict[Variant, Round] = {}
        self._children = 0
        self._sounds: dict[int, Path] = {}
        if extras.wav is not None:
            for path in dict.fromkeys(paths):
                rate = read_bundle(path).sample_rate
                if rate not in self._sounds:
                    self._sounds[rate] = prepare(extras.wav, rate, folder)

    def rounds(self, rounds: int) -> None:
        """Measure every variant once in each round."""
        start, done, total = time.monotonic(), 0, rounds * len(self.variants)
        for number, order in enumerate(round_orders(len(self.variants), rounds), start=1):
            for variant in (self.variants[place] for place in order):
                result = self._child(variant, self._seconds)
                self._measured[variant].append(result)
                done += 1
                left = (time.monotonic() - start) / done * (total - done)
                self._say(
                    f"round {number} of {rounds}, {self._shown(variant)}: "
                    f"median {np.median(result.latencies_ms):.3g} ms, about {left:.0f} s left"
                )

    def sustained(self) -> None:
        """Run every variant for minutes, if that was asked for."""
        minutes = self._extras.sustained_minutes
        for variant in self.variants if minutes else ():
            self._say(f"sustained for {minutes:g} min, {self._shown(variant)}")
            self._sustained[variant] = self._child(
                variant, minutes * SECONDS_PER_MINUTE, "--sustained"
            )

    def entry(self, variant: Variant, began: float) -> dict[str, Any]:
        """Sum up one variant."""
        (index, count), rounds = variant, self._measured[variant]
        about = self._files[index]
        hop, window = about["hop_seconds"], about["window_seconds"]
        summed, phases = summarize(rounds, hop, window), phases_of(rounds)
        parts = [one.paced_ms for one in rounds if one.paced_ms is not None]
        pace = pace_of(parts, hop, [one.paced_idle for one in rounds]) if parts else None
        return {
            **about, "threads": count, "baseline": self._files[0]["name"], **summed,
            **speedup(self._measured[0, count], rounds),
            "golden_agreement": rounds[0].golden_agreement, "sound": rounds[0].sound,
            "warm_windows": [one.warm_windows for one in rounds],
            "phases": phases, "paced": pace,
            "real_time": real_time(phases["inference"], hop, window, pace),
            "memory": memory_of(rounds),
            "energy": energy_of(self._extras.watts, summed["p50_ms"], hop),
            "timeline": timeline_of(rounds, began),
            "sustained": sustained_of(self._sustained.get(variant), began),
        }  # fmt: skip

    def _child(self, variant: Variant, seconds: float, *more: str) -> Round:
        index, count = variant
        about, path = self._files[index], self._paths[index]
        self._children += 1
        place = self._folder / str(self._children)
        place.mkdir()
        options = ["--folder", str(place), *more, *(["--paced"] if self._extras.paced else [])]
        if self._extras.wav is not None:
            sound = self._sounds[about["sample_rate"]]
            options += ["--sound", str(sound), "--sound-name", self._extras.wav.name]
        return run_child(
            path, about["format"], about["digest"], count, seconds, about["file"], options
        )

    def _shown(self, variant: Variant) -> str:
        return f"{self._files[variant[0]]['name']}, {thread_text(variant[1])}"
