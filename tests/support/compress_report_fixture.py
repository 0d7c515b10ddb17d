"""A report.json as ``edgeprune compress`` leaves it: plausible numbers, nothing measured."""

from __future__ import annotations

from typing import Any

LABELS = ("high", "low", "middle")
METRICS = {"classes": ("accuracy", "balanced accuracy", "macro F1"), "tags": ("mAP",)}
SCORES = {"teacher": 0.95, "student": 0.94, "bundle": 0.93, "other": 0.92}


def make_report(
    task: str = "classes", names: tuple[str, ...] = ("teacher", "student", "bundle")
) -> Any:
    """Return the numbers of a run with two seeds, of which the second is delivered."""
    main = METRICS[task][0]
    return {
        "name": "tones", "created": "2026-11-21T12:00:00+00:00", "edgeprune_version": "0",
        "model": "facebook/wav2vec2-base", "machine": "Board (aarch64, 4 cores)",
        "data": {
            "source": "/data/tones/labels.csv", "digest": "ab" * 32, "labels": list(LABELS),
            "bundle_labels": len(LABELS),
            "task": task, "interval_over": "clips", "label_column": "label", "group_column": "",
            "left_out": [], "sample_rate": 16000, "window_seconds": 0.3,
            "train_clips": 70, "valid_clips": 15, "test_clips": 23,
        },
        "settings": {}, "summary": {name: _row(name, main, task) for name in names},
        "seeds": [_seed(number, names) for number in (0, 1)], "best_seed": 1,
        "delivered": {name: _verified(name, task) for name in names},
        "scores": [], "bench": _bench(names), "bundle": "/runs/tones/bundle",
        "files": {"target": "here", "tried": [
            {"format": "onnx", "method": "dynamic", "bytes": 1_200_000, "milliseconds": 3.2,
             "score": 0.93, "loss": 0.004, "agreement": 0.99, "chosen": True, "why": "fastest here"},
            {"format": "onnx", "method": "none", "bytes": 4_000_000, "milliseconds": 5.0,
             "score": 0.934, "loss": 0.0, "agreement": 1.0, "chosen": False, "why": ""},
        ]},
        "headline": "From 12 layers to 6.",
    }  # fmt: skip


def _row(name: str, main: str, task: str) -> dict[str, Any]:
    score, whole = SCORES[name], name == "teacher"
    return {
        "metric": main, "score": score, "interval": [score - 0.03, score + 0.02],
        "metrics": {metric: {"value": score - 0.01 * i, "interval": [score - 0.04, score + 0.01]}
                    for i, metric in enumerate(METRICS[task])},
        "by_seed": [score, score], "difference": score - SCORES["teacher"],
        "difference_interval": [-0.03, 0.01], "agreement": 1.0 if whole else 0.97,
        "layers": 12 if whole else 6, "parameters": 94_000_000 if whole else 47_500_000,
        "quantization": "dynamic" if name in ("bundle", "other") else "none",
        "format": "tflite" if name == "other" else "onnx",
        "bytes": 378_000_000 if whole else 95_000_000, "p50_ms": 40.0 if whole else 10.0,
        "p90_ms": 44.0, "p99_ms": 60.5, "real_time_factor": 0.1, "peak_rss_mb": 512.4, "threads": 1,
    }  # fmt: skip


def _verified(name: str, task: str) -> dict[str, Any]:
    found = {"recall": 0.9, "precision": 0.8}
    if task == "tags":
        found |= {"average_precision": 0.85, "clips": 7}
    return {"score": SCORES[name], "difference": SCORES[name] - SCORES["teacher"], "agreement": 0.97,
            "metric": METRICS[task][0], "metrics": {}, "per_label": dict.fromkeys(LABELS, found)}  # fmt: skip


def _seed(number: int, names: tuple[str, ...]) -> dict[str, Any]:
    teach = {"step": "teach", "layers": 12, "parameters": 94_000_000, "macs": 400_000_000,
             "valid_score": 0.96, "curve": [{"epoch": 1, "valid_score": 0.96}]}  # fmt: skip
    depth = {
        "step": "depth", "layers": 6, "parameters": 50_000_000, "macs": 200_000_000,
        "valid_score": 0.95, "curve": [], "kept": [0, 1, 2, 3, 4, 5], "of_layers": 12, "floor": 0.95,
        "tried": [
            {"keep": list(range(6)), "layers": 6, "valid_score": 0.951, "convexity": 0.8,
             "held": True},
            {"keep": [0, 1], "layers": 2, "valid_score": 0.7, "convexity": None, "held": False},
        ],
    }  # fmt: skip
    trim = {"step": "trim", "layers": 6, "parameters": 47_500_000, "macs": 100_000_000,
            "valid_score": 0.94, "curve": [], "requested": 0.5, "of": "macs",
            "reached": {"macs": 0.498, "parameters": 0.1}}  # fmt: skip
    return {
        "seed": number, "teacher_valid": 0.96, "taught": True, "steps": [teach, depth, trim],
        "verify": {name: _verified(name, "classes") for name in names},
        "export_difference": 3e-6, "seconds": {"teach": 3.2},
        "learning": {"teach": teach["curve"], "depth": [], "distill": teach["curve"]},
    }  # fmt: skip


def _bench(names: tuple[str, ...]) -> dict[str, Any]:
    variants = [
        {"name": name, "threads": threads, "p50_ms": 40.0 / threads, "p90_ms": 44.0, "p99_ms": 60.5,
         "speedup": 1.0, "real_time_factor": 0.1, "peak_rss_mb": 512.4, "load_ms": 30.0, "n": 50,
         "model_bytes": 95_000_000, "samples_ms": [40.0, 41.0, 44.0]}
        for threads in (2, 1) for name in names
    ]  # fmt: skip
    return {"variants": variants, "machine": {"model": "Board", "architecture": "aarch64", "cores": 4},
            "notes": ["The processor was throttled."]}  # fmt: skip
