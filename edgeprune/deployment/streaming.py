"""Adding a model's two halves to a bundle, if they are exact and faster at the bundle's hop.

They are rejected if frames depend on the whole window (``streaming_frontend``); otherwise the file
is split and quantized (``streaming_split``), and scores of overlapping windows of recordings and
time per window are compared with the deployed file's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.data.windows import Windows
from edgeprune.deployment.streaming_frontend import plan_for
from edgeprune.deployment.streaming_split import Halves, halves_of
from edgeprune.models.families import family_of
from edgeprune.quantization.methods import method_of
from edgeprune.quantization.module_scopes import scopes_of
from edgeprune_device.bundle.reader import Bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.incremental import (
    SAME,
    IncrementalScorer,
    open_incremental_unchecked,
)

CHECKED_CLIPS = 24
TIMED_SECONDS = 1.0
FEWEST_WINDOWS = 7
ROUNDING = ("dynamic", "static", "weights4")
"""Methods with rounded inputs of products: frames that differ in the last bit may round differently
and change a score by a thousandth. Their halves must give exactly the same scores."""
MARGIN = 0.2
"""Share of the whole file's time that the halves must save, because they double the size."""
Runner = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def add_halves(
    manifest: Mapping[str, Any], data: bytes, classifier: Any, windows: Windows,
    clips: NDArray[np.float32], asked: str, *, own_hop: bool, calibrate: str, run: Runner,
) -> tuple[dict[str, Any], dict[str, bytes]]:  # fmt: skip
    """Return a manifest that lists a model's halves, or says why there are none, and their files.

    Parameters
    ----------
    manifest : mapping
        Manifest from ``bundle_writer.describe``.
    data : bytes
        The deployed file.
    classifier : transformers.PreTrainedModel
        Model that the file was made from.
    windows : Windows
        Recordings on which the halves must have the same scores as the file.
    clips : array of float32, (n, window)
        Calibration windows of the file.
    asked : str
        ``auto``, ``on`` or ``off``.
    own_hop : bool
        Whether the hop is a default, so that it may be rounded to a whole number of frames.
    calibrate : str
        How ranges were chosen (``quantize.calibrate``).
    run : callable
        The deployed file: samples (1, window) to scores (1, ...).

    Raises
    ------
    EdgepruneError
        They were requested (``on``) and are not possible for this file.

    """
    model = manifest["model"]
    if model["format"] != "onnx" or asked == "off":
        why = ("TFLite files are not split." if model["format"] != "onnx"
               else "It was made without (quantize.incremental = 'off').")  # fmt: skip
        return {**manifest, "model": {**model, "not_incremental": why}}, {}
    hop = 0
    facts: dict[str, float] = {}
    halves, why = _cut(manifest, data, classifier, clips, own_hop, calibrate)
    if halves is not None:
        hop = halves.plan.new * halves.plan.step
        most = 0.0 if model["quantization"] in ROUNDING else SAME
        facts, why = compare(opened(halves), run, stream_of(windows), hop, most)
        why = why or ("" if asked == "on" else too_slow(facts))
    if halves is None or why:
        if asked == "on":
            raise EdgepruneError(
                f"quantize.incremental = 'on' is not possible for this model. {why}",
                "Set it to 'auto' or 'off', or remove the cause.",
            )
        return {**manifest, "model": {**model, "not_incremental": why}}, {}
    entry = {**halves.entry, "measured": {**facts, "hop_samples": hop}}
    audio = {**manifest["audio"], "hop_seconds": hop / manifest["audio"]["sample_rate"]}
    return {**manifest, "audio": audio, "model": {**model, "incremental": entry}}, halves.files


def _cut(
    manifest: Mapping[str, Any], data: bytes, classifier: Any, clips: NDArray[np.float32],
    own_hop: bool, calibrate: str,
) -> tuple[Halves | None, str]:  # fmt: skip
    """Return a deployed file's halves for its bundle's hop, or why there are none."""
    model, audio = manifest["model"], manifest["audio"]
    hop = round(float(audio["hop_seconds"]) * int(audio["sample_rate"]))
    plan, why = plan_for(classifier, model["input"]["shape"][1], hop, round_down=own_hop)
    if plan is None:
        return None, why
    method = method_of("onnx", model["quantization"], calibrate)
    scopes = scopes_of(family_of(classifier.config.model_type))
    return halves_of(classifier, data, plan, method, scopes, clips, model["opset"])


def too_slow(facts: Mapping[str, float]) -> str:
    """Return a sentence if halves save too little time, else an empty string."""
    own, whole = facts["milliseconds"], facts["whole"]
    if own <= (1 - MARGIN) * whole:
        return ""
    return f"It saves too little: {own:.3g} ms per window instead of {whole:.3g} ms."


def opened(halves: Halves) -> IncrementalScorer:
    """Return a scorer of halves that are in no bundle yet, on one thread."""
    manifest = {"name": "made here", "model": {
        "format": "onnx", "input": {"shape": [1, halves.plan.window_samples]},
        "incremental": halves.entry,
    }}  # fmt: skip
    return open_incremental_unchecked(
        Bundle(Path(), manifest, b"", (), "", incremental_files=halves.files)
    )


def stream_of(windows: Windows) -> NDArray[np.float32]:
    """Return some recordings, evenly spaced, concatenated."""
    count = min(CHECKED_CLIPS, len(windows.samples))
    index = np.linspace(0, len(windows.samples) - 1, num=max(2, count), dtype=int)
    return np.concatenate([np.array(windows.samples[i]) for i in index])


def compare(
    scorer: IncrementalScorer, run: Runner, stream: NDArray[np.float32], hop: int,
    most: float = SAME,
) -> tuple[dict[str, float], str]:  # fmt: skip
    """Compare halves with the whole file on a stream's overlapping windows.

    Parameters
    ----------
    scorer : IncrementalScorer
        The halves.
    run : callable
        The whole file: samples (1, window) to scores (1, ...).
    stream : array of float32, (n,)
        At least a window and a hop.
    hop : int
        Samples between windows.
    most : float
        Largest difference of a score allowed.

    Returns
    -------
    facts : dict
        ``difference``: the largest of a score; ``milliseconds`` and ``whole``: median processor
        time per window, measured alternately (wall time, on a busy machine, would favour the
        shorter computation).
    why : str
        Why the halves cannot replace the file; empty if they can.

    """
    window, begun = scorer.plan.window_samples, time.perf_counter()
    taken: list[tuple[float, float]] = []
    worst = 0.0
    firsts = range(0, len(stream) - window + 1, hop)
    for number, first in enumerate(firsts):
        heard = stream[first : first + window]
        start = time.process_time()
        found = scorer(first, heard)
        middle = time.process_time()
        wanted = run(heard[None])[0]
        taken.append((middle - start, time.process_time() - middle))
        difference = float(np.abs(found - wanted).max())
        worst = max(worst, difference if np.isfinite(difference) else np.inf)
        if number >= FEWEST_WINDOWS and time.perf_counter() - begun > TIMED_SECONDS:
            break
    own, whole = 1000 * np.median(taken[1:], axis=0)  # the first window has no frames to reuse
    facts = {"difference": worst, "milliseconds": float(own), "whole": float(whole)}
    if worst > most:
        why = f"A score of its halves differs from the model's by {worst:.1g} (allowed: {most:g})"
        return facts, f"{why}." if most else f"{why} because products round their inputs."
    return facts, ""
