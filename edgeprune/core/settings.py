"""Every stage's settings: one frozen dataclass per stage. ``recipe`` reads and checks them."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgeprune.core.closed_form_settings import Reconstruct
from edgeprune.core.deployment_settings import Bench, Export, Quantize


@dataclass(frozen=True)
class Clips:
    """Which clips are used, with which labels, split how, in windows of which length."""

    task: str = "classes"
    """What a label cell contains: ``classes``, one per clip; ``tags``, any number separated by
    ``;``; ``ctc``, a transcript."""
    tokens: str = "characters"
    """What a transcript is split into: ``characters``, or ``words`` (at its spaces)."""
    label: str = "label"
    """Column of the manifest with the classes, tags or transcripts."""
    group: str = ""
    """Column whose values stay on one side of a split (speaker, recording, site); empty: the first
    usual one that fits, ``none``: no grouping."""
    window_seconds: float = 0.0
    """Length of a window; 0: the model's own, or the length that holds 95 % of the clips, at most
    10 s; for transcripts, the longest clip."""
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    """Shares of train, valid and test where the data gives no split."""
    test_fold: str = ""
    """Fold that is the test split where the data has folds; empty: the last."""
    split_seed: int = 0
    """Random seed of a split made here."""
    context: str = "clip"
    """How a row with start and end is used: ``clip``, cut out of its file; ``file``, in the context
    of its file (frame-level labels such as phones)."""


@dataclass(frozen=True)
class Augment:
    """Augmentation of the training clips."""

    speed: tuple[float, float] = (0.9, 1.1)
    """Range of the playback speed; one factor per batch."""
    shift_seconds: float = 0.1
    """Largest shift in time, either way."""
    gain_db: tuple[float, float] = (-8.0, 4.0)
    """Range of the gain in dB."""
    noise_share: float = 0.5
    """Share of the windows that get coloured noise."""
    noise_snr_db: tuple[float, float] = (5.0, 40.0)
    """Range of the signal-to-noise ratio in dB."""
    mask_share: float = 0.5
    """Share of the windows with a stretch of time and a frequency band silenced (SpecAugment); 0:
    none. KWT, CNN14 and new students mask their own spectrograms instead."""
    mask_time: float = 0.1
    """Longest silenced stretch, as a share of the window."""
    mask_band: float = 0.15
    """Widest silenced band, as a share of the mel scale."""


@dataclass(frozen=True)
class Teach:
    """Fine-tune the model for these labels."""

    when: str = "auto"
    """``auto``: fine-tune only if the model's head does not know every label; ``always``."""
    head: str = "own"
    """Kind of a new head: the model's ``own``; ``mlp`` (mean over time, 1,024 ReLU units) for
    classes and tags, ``bilstm`` (two layers of 256) for transcripts (both as Genova et al.)."""
    tune: str = "whole"
    """What is trained: the ``whole`` model but its waveform encoder, ``all`` of it, the ``head``
    alone (linear probing), or ``ssf``: the head, and a scale and shift per channel of the rest."""
    epochs: int = 20
    """Largest number of passes over the training clips."""
    patience: int = 8
    """Epochs without a better validation score before stopping."""
    batch_size: int = 32
    """Windows per step."""
    learning_rate: float = 0.0
    """Peak learning rate; 0: 3e-5 from 20 million parameters on, otherwise 5e-4."""
    weight_decay: float = 0.05
    """Weight decay of AdamW."""
    label_smoothing: float = 0.1
    """Share of the target spread over all labels (classes), or moved to the other side (tags)."""


@dataclass(frozen=True)
class Score:
    """Score every layer: convexity of the classes, similarity of the layers."""

    split: str = "valid"
    """Split to score on: ``train``, ``valid``, ``test`` or ``all``. ``valid`` was not trained on,
    so late layers do not look too good."""
    max_clips: int = 3000
    """Largest number of clips, drawn by class; time grows with its square."""
    neighbours: int = 10
    """Neighbours of each point in the graph (k)."""
    permutations: int = 40
    """Random permutations of the labels for the null; its 97.5th percentile needs 39 or more."""
    draws: int = 1000
    """Bootstrap resamples for the intervals."""
    labelings: tuple[str, ...] = ()
    """Label columns that are scored beside the task; empty: label, speaker, individual and the
    group."""
    reference: bool = False
    """Follow the rules of nnconvexity 0.1.1 (PyPI) where they differ (duplicates, ties), to compare
    values."""


@dataclass(frozen=True)
class Measure:
    """Remove layers and measure the accuracy that remains."""

    clips: int = 500
    """Largest number of validation clips to choose on, and of test clips to report on."""
    euclidean_pairs: int = 3
    """Pairs of clips per class for Euclidean convexity; 0: not computed."""
    bridge_clips: int = 500
    """Training clips that fit the linear bridges; 0: no bridges."""
    random_orders: int = 3
    """Random orders of the rule ``random``, the control."""


@dataclass(frozen=True)
class Finetune:
    """``score --finetune``: fine-tune after each layer subset."""

    epochs: int = 5
    """Passes over the training clips."""
    rules: tuple[str, ...] = ()
    """Rules whose layer subsets are fine-tuned; empty: all but greedy-bridged, each distinct subset
    once."""


@dataclass(frozen=True)
class Prune:
    """Step ``depth``: choose the layers to keep; a rule proposes, measurement decides."""

    keep: int = 0
    """Keep the first N layers; 0: search."""
    layers: tuple[int, ...] = ()
    """Keep exactly these layers, counted from 0; empty: search."""
    curve: str = "untouched"
    """Which convexity curve proposes: that of the model before fine-tuning (``untouched``, arXiv
    2408.11858), or of the ``teacher``, whose last layers fine-tuning has made convex for any
    labels."""
    tolerance: float = 0.01
    """How close to the peak convexity the first candidate must be, as a share of the peak."""
    recovery_epochs: int = 6
    """Epochs of distillation before a layer subset is judged."""
    pick: str = "convexity-plateau"
    """Selection rule that orders the layers; how many are kept is found by measurement."""
    bridge: bool = False
    """Put a linear bridge (ridge regression in closed form) over each gap before recovery."""


@dataclass(frozen=True)
class Distill:
    """Train the smaller model against the teacher, then on the labels."""

    epochs: int = 8
    """Epochs on the teacher's logits and last hidden state."""
    label_epochs: int = 4
    """Epochs on the labels and the teacher's logits after that."""
    batch_size: int = 32
    """Windows per step."""
    learning_rate: float = 0.0
    """Peak learning rate; 0: that of fine-tuning, and twice that after removing layers."""
    temperature: float = 2.0
    """Temperature of the softened logits (Hinton, Vinyals, Dean 2015)."""
    hidden_weight: float = 1.0
    """Weight of the loss on the last hidden state (L1 and 1 - cosine, as in DistilHuBERT)."""
    label_share: float = 0.5
    """Weight of the labels in the label epochs; the rest is the weight of the teacher's logits."""
    patience: int = 8
    """Epochs without a better validation score before stopping."""
    views: int = 0
    """Augmented views of each clip, used in turn, so that the teacher processes each once; 0: a new
    one every epoch."""
    nothing_share: float = 0.1
    """Share of the windows that hold noise or scraps, on which no label may score high; used where
    no label of the data is a background label (``quantize.ignore``)."""


LATER = "later"
"""Mark of a field that was added after runs were made, see ``stages``."""

UNITS = ("heads", "feed-forward", "channels", "hidden")
"""Kinds of units: of attention layers, feed-forward layers, convolutions and the states."""


@dataclass(frozen=True)
class Trim:
    """Step ``trim``: remove heads, feed-forward columns, channels and hidden coordinates."""

    ratio: float = 0.5
    """Share of the model's cost to remove."""
    of: str = "macs"
    """Which cost: ``macs`` (multiply-accumulates), ``parameters``, or ``latency`` of the ONNX file
    on this machine."""
    what: tuple[str, ...] = UNITS
    """Kinds of units that may be removed."""
    method: str = "masks"
    """``masks`` (learned), or a criterion: ``magnitude``, ``taylor``, ``random``."""
    gate: str = "straight-through"
    """``straight-through``, or ``hard-concrete`` (sampled while learning)."""
    mask_loss: str = "budget"
    """``budget``: the threshold of the gates meets the cost in every step; ``lagrangian``: a
    penalty drives the cost there; ``genova``: the mean of the gates, as in Genova, Esling and
    Hurlin."""
    encoder: str = "trained"
    """While masks are learned, the model is ``trained`` with them, or ``frozen`` except for its
    head."""
    rounds: int = 1
    """Trim and recover this many times, in equal steps to the ratio."""
    epochs: int = 6
    """Epochs that learn the masks, per round."""
    recovery_epochs: int = 6
    """Epochs of distillation after each round."""
    gate_rate: float = 0.02
    """Peak learning rate of the gates."""


@dataclass(frozen=True)
class Mimic:
    """Step ``mimic``: a small network in place of a span of layers."""

    span: tuple[int, ...] = ()
    """First replaced layer and the one after the last, counted from 0; empty: all layers."""
    kind: str = "frame"
    """``frame`` (Linear-LayerNorm-ReLU-Linear per frame), ``conv``, ``transformer``, or ``none``:
    the layers are removed."""
    layers: int = 1
    """Layers of the mimic; of two, the first learns the hidden states in the middle of the span."""
    width: int = 512
    """Width of the mimic."""
    kernel: int = 9
    """Kernel of a convolution, in frames."""
    heads: int = 4
    """Attention heads of a transformer mimic."""
    epochs: int = 20
    """Epochs on the teacher's hidden states."""
    label_epochs: int = 10
    """Epochs on the labels and the teacher's logits after that."""
    learning_rate: float = 0.0
    """Peak learning rate; 0: 1e-3."""
    loss: str = "mse"
    """Loss on the hidden states: ``mse`` (arXiv 2409.16302) or ``l1-cosine`` (DistilHuBERT)."""
    distil: bool = True
    """Train on the teacher; false: on the labels alone, as a control."""
    freeze: bool = False
    """Train the head alone during the label epochs."""
    positions: bool = False
    """Keep the positional convolution where all layers are replaced."""


@dataclass(frozen=True)
class FrontEnd:
    """Step ``frontend``: a light front end in place of the waveform encoder, or of KWT's."""

    kind: str = "log-mel"
    """``log-mel`` (the only one for KWT), ``mfcc``, or ``narrow``: the model's own convolutions,
    ``width`` wide."""
    width: int = 128
    """Channels per frame inside the front end."""
    layers: int = 2
    """Convolution blocks; 0: none."""
    kernel: int = 9
    """Kernel of a convolution over time, in frames."""
    mels: int = 40
    """Mel bands."""
    stem_channels: int = 16
    """Channels of two convolutions over frequency and time before the frames; 0: none."""
    hop_ms: float = 20.0
    """Time from one frame (and so one token) to the next, for KWT."""
    epochs: int = 20
    """Epochs on the teacher's features."""
    whole_epochs: int = 10
    """Epochs of the whole model on the teacher's logits and hidden states after that."""
    label_epochs: int = 5
    """Epochs on the labels and the teacher's logits after that."""
    learning_rate: float = 0.0
    """Peak learning rate; 0: 1e-3 for the front end, that of fine-tuning for the whole model."""
    loss: str = "l1-cosine"
    """Loss on the features: ``l1-cosine`` or ``mse``."""
    distil: bool = True
    """Train on the teacher; false: on the labels alone, as a control."""


@dataclass(frozen=True)
class Student:
    """Step ``student``: a new small model for the labels."""

    kind: str = "conv"
    """Blocks: ``conv``, ``transformer`` or ``frame``; ``cnn``: the small CNN of the bird-song
    poster."""
    front_end: str = "log-mel"
    """``log-mel``, ``mfcc`` or ``waveform`` (strided convolutions), inside the graph."""
    width: int = 96
    """Channels per frame between the blocks."""
    layers: int = 6
    """Blocks; 0: the head on the front end alone."""
    expansion: int = 2
    """Factor by which a block is wider inside."""
    kernel: int = 9
    """Kernel of a convolution over time, in frames."""
    heads: int = 4
    """Attention heads of a transformer block."""
    mels: int = 40
    """Mel bands (or filters of the waveform front end)."""
    hop_ms: float = 20.0
    """Time from one frame to the next."""
    frame_ms: float = 25.0
    """Length of a frame."""
    stem_channels: int = 16
    """Channels of two convolutions over frequency and time before the frames; 0: none."""
    pooling: str = "mean"
    """Pooling over the frames: ``mean``, ``mean-max`` or ``attentive``."""
    epochs: int = 60
    """Epochs on the teacher."""
    label_epochs: int = 6
    """Epochs on the labels and the teacher's logits after that."""
    learning_rate: float = 0.0
    """Peak learning rate; 0: 2e-3."""
    mix: float = 0.5
    """Share of the windows that are mixed with another one (mixup) during the epochs on the
    teacher."""
    intermediate: bool = False
    """Every block is trained on a block of the teacher, not only the last one."""
    relation_weight: float = 0.0
    """Weight of the loss on the similarity of clips to each other (relational distillation)."""
    distil: bool = True
    """Train on the teacher; false: on the labels alone, as a control."""
    init: str = "random"
    """``random``, or ``teacher``: transformer blocks start from those of the teacher's weights that
    fit."""


@dataclass(frozen=True)
class Settings:
    """The whole recipe."""

    steps: tuple[str, ...] = ("depth",)
    """Steps that make the student smaller, in this order."""
    seeds: int = 3
    """Independent repetitions; the report gives the accuracies over all of them."""
    max_drop: float = 0.01
    """Largest accuracy drop allowed, as a share (0.01 is one percentage point)."""
    accelerator: str = "auto"
    """Where to train: ``auto``, ``cpu``, ``cuda`` or ``mps``."""
    precision: str = "full"
    """Precision of training: ``full``, or ``bf16`` (mixed; also faster on CPUs that have it)."""
    clips: Clips = field(default_factory=Clips)
    augment: Augment = field(default_factory=Augment)
    teach: Teach = field(default_factory=Teach)
    score: Score = field(default_factory=Score)
    measure: Measure = field(default_factory=Measure)
    finetune: Finetune = field(default_factory=Finetune)
    prune: Prune = field(default_factory=Prune)
    trim: Trim = field(default_factory=Trim)
    reconstruct: Reconstruct = field(default_factory=Reconstruct, metadata={LATER: True})
    distill: Distill = field(default_factory=Distill)
    mimic: Mimic = field(default_factory=Mimic)
    frontend: FrontEnd = field(default_factory=FrontEnd)
    student: Student = field(default_factory=Student)
    export: Export = field(default_factory=Export)
    quantize: Quantize = field(default_factory=Quantize)
    bench: Bench = field(default_factory=Bench)


PICKS = ("convexity-peak", "convexity-plateau", "backward", "forward", "block-influence",
         "angular-span", "similarity-block", "greedy-ablation", "greedy-bridged",
         "random")  # fmt: skip
STEPS = {
    "depth": ("edgeprune.depth_pruning.prune:prune", "prune"),
    "trim": ("edgeprune.width_pruning.trim:trim", "trim"),
    "reconstruct": ("edgeprune.closed_form.reconstruct:reconstruct", "reconstruct"),
    "mimic": ("edgeprune.replacement.mimic:mimic", "mimic"),
    "frontend": ("edgeprune.replacement.frontend:frontend", "frontend"),
    "student": ("edgeprune.replacement.student:make_student", "student"),
}
"""Step -> its stage ("module:function", imported when a recipe names it) and its field in
``Settings``."""
