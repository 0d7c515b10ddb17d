"""Chooses the faster of a bundle's two model files on this machine.

Which of two runtimes is faster depends on the processor, so it is measured once: both files are
opened, compared with their golden outputs, and timed alternately on the golden inputs. The choice
is stored in a small file (``variant.json``, in the journal's folder) and is valid until the bundle,
the machine, a runtime or the number of threads changes.

    open both -> golden outputs -> warm up -> ABBAAB... -> median of each -> the faster

The first file is used unless the alternative is more than 5 % faster: the thresholds were set on
the scores of the first, and noise should not decide a tie.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune_device.bundle.reader import Bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.runtime import Scorer, check_golden, open_model, runtime_name
from edgeprune_device.system.files import write_whole
from edgeprune_device.system.machine import machine_facts

STORE = "variant.json"
SCHEMA = 1
WARM_WINDOWS = 3
FEWEST_WINDOWS, MOST_WINDOWS = 5, 2000
"""Number of windows timed per file."""
LEAST_SECONDS, ENOUGH_SECONDS = 1.0, 10.0
"""Shortest and longest time of the measurement, in seconds: a short disturbance must not decide the
choice. The limit applies once each file has had ``FEWEST_WINDOWS``."""
LEAST_WINDOWS = 15
"""Number of windows per file, if they can be done within ``ENOUGH_SECONDS``."""
MARGIN = 0.05
"""Share by which the alternative must be faster than the first."""


@dataclass(frozen=True)
class ChosenVariant:
    """One variant of a bundle that was opened and passed its golden check on this machine."""

    bundle: Bundle
    """The bundle without its alternative."""
    run: Scorer
    golden_difference: float
    """Largest difference of a score from the golden outputs."""
    facts: Mapping[str, Any] | None = None
    """The choice and its reason, as in ``variant.json``; None if there was nothing to choose."""

    @property
    def sentence(self) -> str:
        """Which variant was chosen and why; empty if there was nothing to choose."""
        if self.facts is None:
            return ""
        model = self.bundle.manifest["model"]
        said = f"model: {self.bundle.file} ({model.get('quantization')}), {self.facts['reason']}"
        return ". ".join([said, *(left.rstrip(".") for left in self.facts["left_out"])]) + "."

    def remember(self, store: Path) -> None:
        """Write the choice to the file that ``choose_variant`` reads; nothing if there was no choice."""
        if self.facts is None:
            return
        try:
            write_whole(store, json.dumps(self.facts, indent=1) + "\n")
        except OSError as error:
            raise EdgepruneError(f"{store} cannot be written: {error.strerror}.") from error


def choose_variant(
    bundle: Bundle, threads: int = 1, store: Path | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> ChosenVariant:  # fmt: skip
    """Open a bundle's model; of two files, the faster one that passes its golden check.

    Parameters
    ----------
    bundle : Bundle
    threads : int
        Number of threads of the runtime.
    store : Path or None
        File with an earlier choice; nothing is written to it (see ``ChosenVariant.remember``).
    clock : callable
        Returns seconds.

    Returns
    -------
    ChosenVariant

    Raises
    ------
    EdgepruneError
        For no file is the runtime installed, runs it and gives the scores of the workstation. For
        a bundle with one file: the error of ``open_model`` or ``check_golden``.

    """
    if bundle.alternative is None:
        return ChosenVariant(bundle, *_opened(bundle, threads))
    key = choice_key(bundle, threads)
    earlier = _remembered(store, key)
    for variant in bundle.variants:
        if earlier and variant.file == earlier["file"]:
            with suppress(EdgepruneError):  # it ran when it was chosen: choose again
                return ChosenVariant(variant, *_opened(variant, threads), earlier)
    held: dict[str, tuple[Bundle, Scorer, float]] = {}
    errors: dict[str, EdgepruneError] = {}
    for variant in bundle.variants:
        try:
            held[variant.file] = (variant, *_opened(variant, threads))
        except EdgepruneError as error:
            errors[variant.file] = error
    if not held:
        raise _none_left(bundle, list(errors.values()))
    times: dict[str, float] = {}
    file, reason = next(iter(held)), "the only one that runs on this machine"
    if len(held) > 1:
        times = _medians_ms({file: run for file, (_, run, _) in held.items()}, bundle, clock)
        file, reason = _faster(times)
    left = [f"{name} is not used: {error}" for name, error in errors.items()]
    facts = {"schema": SCHEMA, "key": key, "file": file, "format": held[file][0].format,
             "milliseconds": times, "reason": reason, "left_out": left}  # fmt: skip
    return ChosenVariant(*held[file], facts)


def choice_key(bundle: Bundle, threads: int) -> dict[str, Any]:
    """Return what a choice depends on: bundle, machine, runtimes and threads."""
    machine = machine_facts()
    return {
        "bundle_digest": bundle.digest, "machine": machine["model"],
        "architecture": machine["architecture"], "threads": threads,
        "runtimes": [runtime_name(variant.format) for variant in bundle.variants],
    }  # fmt: skip


def _opened(bundle: Bundle, threads: int) -> tuple[Scorer, float]:
    run = open_model(bundle, threads)
    return run, check_golden(bundle, run)


def _remembered(store: Path | None, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return an earlier choice that is still valid; None if the file is damaged."""
    if store is None or not store.is_file():
        return None
    try:
        found = json.loads(store.read_text("utf-8"))
        whole = (found["schema"], found["key"]) == (SCHEMA, key) and isinstance(found["file"], str)
        texts = [found["reason"], *found["left_out"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    known: dict[str, Any] = found
    return known if whole and all(isinstance(text, str) for text in texts) else None


def _medians_ms(
    runs: Mapping[str, Scorer], bundle: Bundle, clock: Callable[[], float]
) -> dict[str, float]:
    """Return each file's median time per window in ms."""
    inputs = [golden.samples for golden in bundle.golden]
    for run in runs.values():
        for index in range(WARM_WINDOWS):
            run(inputs[index % len(inputs)])
    taken: dict[str, list[float]] = {file: [] for file in runs}
    start, order = clock(), list(runs.items())
    for turn in range(MOST_WINDOWS):
        passed = clock() - start
        enough = passed > ENOUGH_SECONDS and turn >= FEWEST_WINDOWS
        if enough or (passed >= LEAST_SECONDS and turn >= LEAST_WINDOWS):
            break
        for file, run in order if turn % 2 == 0 else order[::-1]:
            begin = clock()
            run(inputs[turn % len(inputs)])
            taken[file].append(1000 * (clock() - begin))
    return {file: float(np.median(times)) for file, times in taken.items()}


def _faster(times: Mapping[str, float]) -> tuple[str, str]:
    """Return the file to use and the reason; ``times`` is in the bundle's order."""
    first, other = times
    taken, left = (other, first) if times[other] < (1 - MARGIN) * times[first] else (first, other)
    return taken, f"{times[taken]:.3g} ms per window on this machine, {left} {times[left]:.3g} ms"


def _none_left(bundle: Bundle, errors: list[EdgepruneError]) -> EdgepruneError:
    first = errors[0]
    sentences = list(dict.fromkeys(str(error) for error in errors))
    if len(sentences) == 1:
        return first
    return EdgepruneError(
        f"Neither model of bundle {bundle.name} runs on this machine. {' '.join(sentences)}",
        first.hint, first.status,
    )  # fmt: skip
