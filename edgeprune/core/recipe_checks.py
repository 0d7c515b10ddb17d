"""Checks of a recipe's values: the allowed words, the ranges, and what does not fit together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from edgeprune.core.settings import PICKS, STEPS, UNITS, Settings
from edgeprune_device.errors import EdgepruneError

CHOICES: dict[str, tuple[str, ...]] = {
    "accelerator": ("auto", "cpu", "cuda", "mps"),
    "precision": ("full", "bf16"),
    "clips.context": ("clip", "file"),
    "clips.task": ("classes", "tags", "ctc"),
    "clips.tokens": ("characters", "words"),
    "teach.head": ("own", "mlp", "bilstm"),
    "teach.when": ("auto", "always"),
    "teach.tune": ("whole", "all", "head", "ssf"),
    "prune.curve": ("untouched", "teacher"),
    "prune.pick": PICKS,
    "trim.of": ("macs", "parameters", "latency"),
    "trim.method": ("masks", "magnitude", "taylor", "random"),
    "trim.gate": ("straight-through", "hard-concrete"),
    "trim.mask_loss": ("budget", "lagrangian", "genova"),
    "trim.encoder": ("trained", "frozen"),
    "reconstruct.of": ("macs", "parameters"),
    "score.split": ("train", "valid", "test", "all"),
    "frontend.kind": ("log-mel", "mfcc", "narrow"),
    "frontend.loss": ("mse", "l1-cosine"),
    "mimic.kind": ("frame", "conv", "transformer", "none"),
    "mimic.loss": ("mse", "l1-cosine"),
    "student.kind": ("conv", "transformer", "frame", "cnn"),
    "student.front_end": ("log-mel", "mfcc", "waveform"),
    "student.pooling": ("mean", "mean-max", "attentive"),
    "student.init": ("random", "teacher"),
    "quantize.method": ("auto", "dynamic", "weights", "weights4", "half", "static", "none"),
    "quantize.incremental": ("auto", "on", "off"),
    "quantize.target": ("here", "pi4", "pi5", "x86"),
    "quantize.calibrate": ("minmax", "percentile", "entropy", "mse"),
}
EACH_OF: dict[str, Collection[str]] = {
    "finetune.rules": PICKS, "steps": STEPS, "export.formats": ("onnx", "tflite"),
    "trim.what": UNITS, "reconstruct.what": UNITS[:2],
}  # fmt: skip
POSITIVE = (
    "seeds", "teach.batch_size", "score.neighbours", "distill.batch_size", "teach.epochs",
    "distill.patience", "score.max_clips", "score.permutations", "score.draws", "measure.clips",
    "trim.rounds", "trim.epochs",
    "frontend.width", "frontend.mels", "mimic.width", "mimic.heads", "student.width",
    "student.expansion", "student.heads", "student.mels",
    "measure.random_orders", "finetune.epochs", "quantize.smoothing_windows", "bench.threads",
    "reconstruct.clips", "quantize.try_clips", "quantize.calibration_clips",
)  # fmt: skip
AT_LEAST_ZERO = (
    "max_drop", "quantize.max_loss", "quantize.recover_epochs",
    "clips.window_seconds", "teach.learning_rate", "prune.keep", "prune.tolerance",
    "prune.recovery_epochs", "distill.epochs", "distill.nothing_share", "distill.label_epochs",
    "distill.learning_rate", "quantize.hop_seconds", "clips.fractions",
    "clips.split_seed", "prune.layers", "teach.label_smoothing", "teach.weight_decay",
    "distill.hidden_weight", "quantize.refractory_seconds", "measure.euclidean_pairs",
    "trim.recovery_epochs", "reconstruct.ratio",
    "frontend.layers", "frontend.stem_channels", "frontend.epochs", "frontend.whole_epochs",
    "frontend.label_epochs", "frontend.learning_rate", "mimic.span", "mimic.epochs",
    "mimic.label_epochs", "mimic.learning_rate",
    "student.layers", "student.stem_channels", "student.epochs", "student.label_epochs",
    "student.learning_rate", "student.mix", "student.relation_weight",
    "measure.bridge_clips", "augment.shift_seconds", "augment.noise_share", "augment.mask_share",
    "augment.mask_time", "augment.mask_band", "distill.views", "distill.label_share",
)  # fmt: skip
MORE_THAN_ZERO = (
    "trim.ratio",
    "trim.gate_rate",
    "frontend.hop_ms",
    "student.hop_ms",
    "student.frame_ms",
    "augment.speed",
    "distill.temperature",
    "quantize.precision",
    "bench.seconds",
)
BETWEEN = {"mimic.layers": (1, 2), "bench.rounds": (3, 7), "export.opset": (17, 20)}
AT_MOST_ONE = (
    "augment.noise_share", "augment.mask_share", "augment.mask_time", "augment.mask_band",
    "student.mix",
    "trim.ratio", "reconstruct.ratio",
    "distill.label_share",
    "quantize.precision",
    "teach.label_smoothing",
    "distill.nothing_share",
)  # fmt: skip
ODD = ("mimic.kernel", "frontend.kernel", "student.kernel")


def check_settings(settings: Settings) -> None:
    """Check merged settings.

    Raises
    ------
    EdgepruneError
        A value is out of its range or none of its choices, or two of them contradict each other.

    """
    _check_choices(settings)
    _check_ranges(settings)
    _check_task(settings)
    _check_order(settings.steps)
    _check_export(settings)


def _check_choices(settings: Settings) -> None:
    """Raise if a setting has none of its allowed values."""
    for name, known in CHOICES.items():
        if _get(settings, name) not in known:
            raise EdgepruneError(
                f"{name} = {_get(settings, name)!r} is not known.", f"Known: {', '.join(known)}."
            )
    for name, allowed in EACH_OF.items():
        for value in _get(settings, name):
            if value not in allowed:
                raise EdgepruneError(
                    f"{name} contains {value!r}, which is not known.",
                    f"Known: {', '.join(allowed)}.",
                )


def _check_ranges(settings: Settings) -> None:
    """Raise if a number is out of its range."""
    for names, least in ((POSITIVE, 1), (AT_LEAST_ZERO, 0)):
        for name in names:
            value = _get(settings, name)
            if (min(value, default=least) if isinstance(value, tuple) else value) < least:
                raise EdgepruneError(f"{name} = {value} is out of range (allowed: from {least}).")
    for name in MORE_THAN_ZERO:
        value = _get(settings, name)
        if (min(value) if isinstance(value, tuple) else value) <= 0:
            raise EdgepruneError(f"{name} = {value} is out of range (allowed: more than 0).")
    for name in AT_MOST_ONE:
        if _get(settings, name) > 1:
            raise EdgepruneError(
                f"{name} = {_get(settings, name)} is out of range (allowed: at most 1)."
            )
    for name, (least, most) in BETWEEN.items():
        if not least <= _get(settings, name) <= most:
            raise EdgepruneError(
                f"{name} = {_get(settings, name)} is out of range (allowed: {least} to {most})."
            )
    for name in ODD:
        if _get(settings, name) < 1 or _get(settings, name) % 2 == 0:
            raise EdgepruneError(
                f"{name} = {_get(settings, name)} is out of range (allowed: odd numbers from 1)."
            )
    if not settings.bench.threads:
        raise EdgepruneError("bench.threads = () is empty; it needs at least one thread count.")
    if settings.clips.fractions[0] <= 0:
        raise EdgepruneError(
            f"clips.fractions = {settings.clips.fractions} leaves no clips for training."
        )
    for name in ("augment.speed", "augment.gain_db", "augment.noise_snr_db"):
        low, high = _get(settings, name)
        if low > high:
            raise EdgepruneError(f"{name} = [{low:g}, {high:g}] is not a range: start exceeds end.")
    if settings.max_drop >= 1:
        raise EdgepruneError(
            f"max_drop = {settings.max_drop:g} is out of range (allowed: less than 1).",
            "max_drop is a share: one percentage point is 0.01.",
        )


def _check_export(settings: Settings) -> None:
    """Raise if the export formats contradict each other or another setting."""
    if not settings.export.formats or len(set(settings.export.formats)) < len(
        settings.export.formats
    ):
        raise EdgepruneError(
            f"export.formats = {list(settings.export.formats)} is empty or repeats a format.",
            "Known: onnx, tflite.",
        )
    if settings.export.together and len(settings.export.formats) < 2:
        raise EdgepruneError(
            "export.together needs two formats, but export.formats has only one.",
            "Use --format onnx,tflite.",
        )
    if settings.quantize.incremental == "on" and "onnx" not in settings.export.formats:
        raise EdgepruneError(
            "quantize.incremental = 'on' needs an ONNX file, but export.formats does not include "
            "onnx.",
            "Use --format onnx, or set quantize.incremental to 'auto' or 'off'.",
        )


def _check_order(steps: Sequence[str]) -> None:
    """Raise if a step cannot use the result of the steps before it."""
    if "student" in steps[1:]:
        raise EdgepruneError(
            "The step student starts a new model, which would discard the steps before it.",
            "Put student first, or remove the steps before it.",
        )
    before = steps[: len(steps) - 1 - steps[::-1].index("depth")] if "depth" in steps else ()
    if lost := {"depth", "mimic", "student"} & set(before):
        raise EdgepruneError(
            f"The step depth cannot follow {min(lost)}, which changes the layers that were scored.",
            "Use depth once, preceded only by trim or frontend.",
        )


def _check_task(settings: Settings) -> None:
    """Raise if a setting does not fit the task."""
    task, head = settings.clips.task, settings.teach.head
    if head != "own" and (head == "bilstm") != (task == "ctc"):
        fits = "bilstm" if task == "ctc" else "mlp"
        raise EdgepruneError(
            f"teach.head = {head!r} does not fit clips.task = {task!r}.",
            f"Use {fits}, or own (the model's own head).",
        )
    if task == "ctc" and settings.score.labelings:
        raise EdgepruneError(
            "Transcripts (clips.task = 'ctc') have no classes whose convexity could be scored.",
            "Run edgeprune score --label COLUMN for another column, or remove score.labelings.",
        )
    if task != "classes" and settings.clips.context == "file":
        raise EdgepruneError(
            f"clips.context = 'file' (--frames) needs classes, but clips.task = {task!r}.",
            "Use clips.task = 'classes', or leave out --frames.",
        )


def _get(settings: Settings, name: str) -> Any:
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value
