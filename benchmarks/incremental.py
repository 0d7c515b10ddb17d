"""Time per window if overlapping windows share frames, for several hops.

    python benchmarks/incremental.py --shared ../shared --results benchmarks/results

Each model's file is run whole and in its two halves, alternately, on the same recordings, with hops
of a window, a half, a quarter, an eighth and a sixteenth of it (rounded down to whole frames): wall
and processor time per window, one thread, medians; and the largest difference of a score between
the two over all windows (``compress`` delivers int8 halves only if it is 0). On a busy machine, use
the processor time. Models that cannot be split are listed with the reason. The shapes are real
(wav2vec2-base, Whisper-tiny) with random weights; KWT-1 and the Arabic words are trained.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import soundfile
import torch
from numpy.typing import NDArray

from edgeprune.core.settings import Mimic
from edgeprune.core.tables import table, to_markdown
from edgeprune.deployment.streaming import opened
from edgeprune.deployment.streaming_frontend import plan_for, window_front_end
from edgeprune.deployment.streaming_split import halves_of
from edgeprune.export.onnx import onnx_runner, to_onnx
from edgeprune.models import (
    input_length,
    loading,
)
from edgeprune.models.families import family_of
from edgeprune.nn.spectrogram_specs import SPECS, record_of
from edgeprune.nn.student import StudentConfig, StudentForAudioClassification
from edgeprune.quantization.methods import method_of
from edgeprune.quantization.module_scopes import scopes_of
from edgeprune.replacement.mimic_placement import drop_positions, mimic_spec, put_mimic
from edgeprune_device.system.machine import machine_facts

RATE, OPSET, LABELS = 16000, 18, 20
SHARES = (1, 2, 4, 8, 16)
"""Hops per window."""
METHODS = ("none", "dynamic")
Row = dict[str, Any]


def main() -> None:
    """Measure every model at every hop, print the table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--shared", type=Path, required=True, help="models/ and data/")
    parser.add_argument("--results", type=Path, required=True, help="where the JSON goes")
    parser.add_argument("--windows", type=int, default=40, help="windows of each hop")
    parser.add_argument("--only", default="", help="a part of the models' names")
    options = parser.parse_args()
    torch.set_num_threads(1)
    stream = speech(options.shared / "data")
    rows: list[Row] = []
    for name, make in makers(options.shared / "models").items():
        if options.only in name:
            rows += measure(name, make(), stream, options.windows)
            print(to_markdown(to_table(rows[-len(SHARES) * len(METHODS) :])), flush=True)
    print(to_markdown(to_table(rows)))
    options.results.mkdir(parents=True, exist_ok=True)
    day = datetime.now(UTC).date().isoformat()
    facts = {
        "machine": machine_facts(), "threads": 1, "onnxruntime": onnxruntime.__version__,
        "load_average_at_end": os.getloadavg(), "windows": options.windows,
        "sound": "LibriSpeech 237, 16 kHz", "rows": rows,
    }  # fmt: skip
    (options.results / f"incremental-{day}.json").write_text(
        json.dumps(facts, indent=1) + "\n", "utf-8"
    )


def speech(data: Path) -> NDArray[np.float32]:
    """Return two minutes of read speech."""
    files = sorted(
        x for x in (data / "librispeech_237").rglob("*") if x.suffix in (".flac", ".wav")
    )
    parts: list[NDArray[np.float32]] = []
    for file in files:
        samples, rate = soundfile.read(file, dtype="float32")
        if rate == RATE:
            parts.append(samples)
        if sum(map(len, parts)) > 120 * RATE:
            break
    return np.concatenate(parts)


def makers(folder: Path) -> dict[str, Callable[[], Any]]:
    """Return functions that make the models, by name."""
    return {
        "KWT-1": lambda: loading.load_model(str(folder / "kwt1_speech_commands")),
        "Arabic words": lambda: loading.load_model(str(folder / "w2v2_arabic_words")),
        "student, log-mel": student,
        "wav2vec2-base, group norm": lambda: waveform("group"),
        "wav2vec2-base, layer norm": lambda: waveform("layer"),
        "the same, mimic": mimic,
        "Whisper-tiny": whisper,
    }


def waveform(norm: str) -> Any:
    """Return a wav2vec2-base with random weights, without normalization of the window."""
    from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

    torch.manual_seed(0)
    config = Wav2Vec2Config(
        num_labels=LABELS, layerdrop=0.0, mask_time_prob=0.0, feat_extract_norm=norm
    )
    model = Wav2Vec2ForSequenceClassification._from_config(config, attn_implementation="sdpa")
    model.config.edgeprune_normalize = False
    return model.eval()


def mimic() -> Any:
    """Return the one with layer norm and a frame-wise mimic in place of its twelve layers."""
    model = waveform("layer")
    put_mimic(model, 0, 12, torch.zeros(1, RATE), **mimic_spec(Mimic()))
    drop_positions(model)
    return model.eval()


def student() -> Any:
    """Return a student of the default shape."""
    torch.manual_seed(0)
    model = StudentForAudioClassification(StudentConfig(num_labels=LABELS)).eval()
    model.config.edgeprune_normalize = False
    return model


def whisper() -> Any:
    """Return Whisper-tiny's encoder and a classifier, random weights, for windows of one second."""
    from transformers import WhisperConfig, WhisperForAudioClassification

    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536,
        decoder_layers=1, decoder_attention_heads=6, decoder_ffn_dim=1536, num_labels=LABELS,
    )  # fmt: skip
    config.edgeprune_frontend = record_of(SPECS["whisper"])
    model = WhisperForAudioClassification._from_config(config, attn_implementation="sdpa").eval()
    input_length.attach(model)
    return input_length.resize_input(model, RATE).eval()


def measure(name: str, model: Any, stream: NDArray[np.float32], count: int) -> list[Row]:
    """Return a row for every method and hop of a model."""
    whole = to_onnx(model, RATE, OPSET)
    scopes = scopes_of(family_of(model.config.model_type))
    clips = np.stack([stream[i * RATE : (i + 1) * RATE] for i in range(4)])
    rows: list[Row] = []
    for kind in METHODS:
        method = method_of("onnx", kind)
        data = method(whole, scopes, clips)
        run = onnx_runner(data)
        refused = window_front_end(model, RATE)[1]
        for share in SHARES if not refused else SHARES[:1]:
            row: Row = {"model": name, "method": kind, "windows_a_hop": share}
            hop, scorer, why = RATE // share, None, refused or "no overlap"
            if share > 1:
                plan, why = plan_for(model, RATE, hop, round_down=True)
                if plan is not None:
                    hop = plan.new * plan.step
                    halves, why = halves_of(model, data, plan, method, scopes, clips, OPSET)
                    scorer = opened(halves) if halves is not None else None
            row |= {"hop_seconds": hop / RATE, "why_not": why}
            rows.append(row | timed(run, scorer, stream, hop, count))
    return rows


def timed(run: Any, scorer: Any, stream: NDArray[np.float32], hop: int, count: int) -> Row:
    """Run both on the same windows in turn; return medians in ms and the largest difference."""
    taken: dict[str, list[tuple[float, float]]] = {"whole": [], "halves": []}
    differences = []
    first_window = 0.0
    for number in range(count + 3):
        window = stream[number * hop : number * hop + RATE]
        found, whole = time_of(lambda w: run(w[None])[0], window)
        pair = {"whole": whole}
        if scorer is not None:
            own, halves = time_of(lambda w, n=number: scorer(n * hop, w), window)
            differences.append(float(np.abs(own - found).max()))
            first_window = first_window or halves[0]
            pair["halves"] = halves
        if number >= 3:  # warm by then, and with a window before it
            for place, spent in pair.items():
                taken[place].append(spent)
    row: Row = {}
    for place, times in taken.items():
        if times:
            wall_ms, cpu_ms = np.median(times, axis=0)
            row |= {f"{place}_ms": float(wall_ms), f"{place}_cpu_ms": float(cpu_ms)}
    if scorer is not None:
        row |= {"difference": max(differences), "first_window_ms": first_window,
                "computed_share": scorer.computed / (scorer.computed + scorer.kept)}  # fmt: skip
    return row


def time_of(work: Any, window: NDArray[np.float32]) -> tuple[Any, tuple[float, float]]:
    """Return the result of a call, and its wall and processor time in ms."""
    wall, cpu = time.perf_counter(), time.process_time()
    answer = work(window)
    return answer, (1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu))


def to_table(rows: list[Row]) -> Any:
    """Return the table: a row for each model, method and hop."""
    lines = []
    for row in rows:
        cut = "halves_ms" in row
        lines.append([
            row["model"], row["method"], f"1/{row['windows_a_hop']} ({row['hop_seconds']:.2f} s)",
            f"{row['whole_ms']:.2f}", f"{row['halves_ms']:.2f}" if cut else "",
            f"{row['halves_cpu_ms']:.2f} of {row['whole_cpu_ms']:.2f}" if cut
            else f"{row['whole_cpu_ms']:.2f}",
            f"{row['whole_cpu_ms'] / row['halves_cpu_ms']:.2f} x" if cut else row["why_not"],
            f"{row['difference']:.0e}" if cut else "",
        ])  # fmt: skip
    head = [
        "model",
        "method",
        "hop",
        "whole, ms",
        "halves, ms",
        "CPU, ms",
        "less CPU",
        "difference",
    ]
    return table(head, lines)


if __name__ == "__main__":
    main()
