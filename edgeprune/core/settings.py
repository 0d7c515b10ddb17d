"""Every stage's settings: one frozen dataclass a stage. ``recipes`` reads and checks them."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgeprune.core.deployment_settings import Bench, Export, Quantize


@dataclass(frozen=True)
class Clips:
    """Which clips, under which labelling, split how, in windows how long."""

    task: str = "classes"
    """What the labels are: ``classes``, one a clip; ``tags``, any number with ``;`` between them;
    ``ctc``, a transcript to be recognised."""
    tokens: str = "characters"
    """What a transcript is cut into: ``characters``, or ``words`` (what stands between spaces)."""
    label: str = "label"
    """Column of the manifest with the classes, tags or transcripts."""
    group: str = ""
    """Column that must not stand in two splits (speaker, recording, site); empty for none."""
    window_seconds: float = 0.0
    """Length of a window; 0: the model's own, or what holds 95 % of the clips, at most 10 s; of
    transcripts, the longest clip's."""
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    """Train, valid and test shares where the data gives no split."""
    test_fold: str = ""
    """Which fold is the test split where the data is folded; empty: the last."""
    split_seed: int = 0
    """Seed of a split made here."""
    context: str = "clip"
    """What a row with start and end is: ``clip``, cut out and heard alone; ``file``, a stretch of
    its file, heard in its place (frame-level labels such as phones)."""


@dataclass(frozen=True)
class Augment:
    """How training changes the clips it hears, so that the field is no surprise."""

    speed: tuple[float, float] = (0.9, 1.1)
    """Played so many times as fast, one factor a batch."""
    shift_seconds: float = 0.1
    """Moved in time by up to this, either way."""
    gain_db: tuple[float, float] = (-8.0, 4.0)
    """Louder or softer by so many dB."""
    noise_share: float = 0.5
    """Share of the windows that get coloured noise."""
    noise_snr_db: tuple[float, float] = (5.0, 40.0)
    """How far under its own level a window's noise is."""
    mask_share: float = 0.5
    """Share of the windows with a stretch of time and a band silenced (SpecAugment); 0: none. KWT,
    CNN14 and our students mask their own spectra instead."""
    mask_time: float = 0.1
    """Longest stretch, as a share of the window."""
    mask_band: float = 0.15
    """Widest band, as a share of the mel scale."""


@dataclass(frozen=True)
class Teach:
    """Fine-tune the model for these labels."""

    when: str = "auto"
    """``auto``: only if the model's own head does not know every label; or ``always``."""
    head: str = "own"
    """A fresh head is the model's ``own`` kind, or Seed 4's: ``mlp`` (mean over time, 1024 ReLU) for
    classes and tags, ``bilstm`` (two layers of 256) for transcripts."""
    tune: str = "whole"
    """``whole`` model (but its waveform encoder), ``all`` of it, its ``head`` alone (linear
    probing), or ``ssf``: the head, and a factor and an offset for each channel of the rest."""
    epochs: int = 20
    """Passes over the training clips at most."""
    patience: int = 8
    """Epochs without a better validation accuracy before stopping."""
    batch_size: int = 32
    """Windows a step."""
    learning_rate: float = 0.0
    """Peak of the schedule; 0: 3e-5 from 20 million parameters on, else 5e-4."""
    weight_decay: float = 0.05
    """AdamW's."""
    label_smoothing: float = 0.1
    """Share of the target spread over all labels (classes) or to the other side (tags)."""


@dataclass(frozen=True)
class Score:
    """Ask every layer's states: convexity of the classes, likeness of the layers."""

    split: str = "valid"
    """Clips to score on; ``valid`` was not trained on, so late layers do not look too good."""
    max_clips: int = 3000
    """Clips at most, drawn by class; time grows with their square."""
    neighbours: int = 10
    """k of the neighbour graph."""
    permutations: int = 40
    """Random labellings in the null; 39 or more for its 97.5 %."""
    draws: int = 1000
    """Resamples in the bootstrap interval."""
    labelings: tuple[str, ...] = ()
    """Columns scored beside the labels; empty: label, speaker, individual and the group."""
    reference: bool = False
    """Follow PyPI's nnconvexity 0.1.1 where its rules differ (duplicates, ties), to compare values."""


@dataclass(frozen=True)
class Measure:
    """Ask the model itself: remove layers and count the clips that stay right."""

    clips: int = 500
    """Clips at most of the validation split to choose on, and of the test split to report on."""
    euclidean_pairs: int = 3
    """Pairs of clips a class for Euclidean convexity; 0: leave it out."""
    bridge_clips: int = 500
    """Training clips that fit the linear bridges over gaps; 0: leave bridges out."""
    random_orders: int = 3
    """Orders of the random control."""


@dataclass(frozen=True)
class Finetune:
    """``score --finetune``: train on the labels after each cut."""

    epochs: int = 5
    """Passes over the training clips."""
    rules: tuple[str, ...] = ()
    """Rules whose cuts are trained; empty: all but greedy-bridged, each distinct cut once."""


@dataclass(frozen=True)
class Prune:
    """Choose the layers to keep: convexity proposes, measurement decides."""

    keep: int = 0
    """Keep the first N layers; 0: find the cut."""
    layers: tuple[int, ...] = ()
    """Keep exactly these layers, counted from 0; empty: find the cut."""
    curve: str = "untouched"
    """Whose convexity proposes: the model as it came (``untouched``, arXiv 2408.11858), or the
    ``teacher``, whose last layers fine-tuning has made convex for any labels."""
    tolerance: float = 0.01
    """The first cut tried stands after the first layer this near the peak (a share of it)."""
    recovery_epochs: int = 6
    """Epochs of distillation before a cut is judged."""
    pick: str = "convexity-plateau"
    """The rule that orders the layers; the depth is found by measurement."""
    bridge: bool = False
    """Put a linear bridge, fitted in closed form, over each gap before recovery."""


@dataclass(frozen=True)
class Distill:
    """Train the pruned student against its teacher, then on the labels."""

    epochs: int = 8
    """Epochs against the teacher's logits and last hidden state."""
    label_epochs: int = 4
    """Epochs on labels and the teacher's logits after that."""
    batch_size: int = 32
    """Windows a step."""
    learning_rate: float = 0.0
    """Peak of the schedule; 0: that of teaching, and twice that to recover from a cut."""
    temperature: float = 2.0
    """Of the softened logits (Hinton, Vinyals, Dean 2015)."""
    hidden_weight: float = 1.0
    """Weight of the last hidden state's loss (L1 and 1 - cosine, as DistilHuBERT)."""
    label_share: float = 0.5
    """Weight of the labels in those last epochs; the rest is the teacher's logits'."""
    patience: int = 8
    """Epochs without a better validation score before stopping."""
    views: int = 0
    """Augmented views of a clip, shown in turn, so that the teacher hears each once; 0: a new one
    every epoch."""
    nothing_share: float = 0.1
    """Share of the student's windows that hold noise or scraps, in which no label may stand out;
    used where no label of the data means nothing (``quantize.ignore``)."""


UNITS = ("heads", "feed-forward", "channels", "hidden")
"""Kinds of units: of attention layers, feed-forward layers, convolutions and the states."""


@dataclass(frozen=True)
class Trim:
    """Trim units (heads, feed-forward columns, channels, hidden coordinates) by learned masks."""

    ratio: float = 0.5
    """Share of the given student's cost that goes."""
    of: str = "macs"
    """Which cost: ``macs``, ``parameters``, or ``latency`` of the ONNX file on this machine."""
    what: tuple[str, ...] = UNITS
    """Kinds of units that may go."""
    method: str = "masks"
    """Learned ``masks``, or a criterion: ``magnitude``, ``taylor``, ``random``."""
    gate: str = "straight-through"
    """``straight-through``, or ``hard-concrete`` (drawn at random while learning)."""
    mask_loss: str = "budget"
    """``budget``: the gates' threshold stands where the cost is met, in every step; ``lagrangian``
    drives the cost there; ``genova`` the gates' mean, as in the paper."""
    encoder: str = "trained"
    """While the masks are learned: the model is ``trained`` with them, or ``frozen`` but its head."""
    rounds: int = 1
    """Trim and recover so many times, in equal steps to the ratio."""
    epochs: int = 6
    """Epochs that learn the masks, each round."""
    recovery_epochs: int = 6
    """Epochs of distillation after each trim."""
    gate_rate: float = 0.02
    """Learning rate of the gates at its peak."""


@dataclass(frozen=True)
class Mimic:
    """The step ``mimic``: a small net in the place of a span of layers."""

    span: tuple[int, ...] = ()
    """The first layer replaced and the one behind the last, counted from 0; empty: all layers."""
    kind: str = "frame"
    """``frame`` (Linear-LayerNorm-ReLU-Linear), ``conv``, ``transformer``, or ``none``: nothing."""
    layers: int = 1
    """1 or 2; of two, the first learns the states in the middle of the span."""
    width: int = 512
    """The mimic's own."""
    kernel: int = 9
    """Frames under a convolution; odd."""
    heads: int = 4
    """Of a transformer mimic."""
    epochs: int = 20
    """On the teacher's states."""
    label_epochs: int = 10
    """On labels and the teacher's answers after that."""
    learning_rate: float = 0.0
    """Peak of the schedule; 0: 1e-3."""
    loss: str = "mse"
    """Of the states: ``mse`` (arXiv 2409.16302) or ``l1-cosine`` (DistilHuBERT)."""
    distil: bool = True
    """Learn the teacher's states and answers; false: the control, on labels alone."""
    freeze: bool = False
    """While labels are learnt, train the head alone."""
    positions: bool = False
    """Keep the positional convolution where the whole stack is replaced."""


@dataclass(frozen=True)
class FrontEnd:
    """The step ``frontend``: a light front end in place of the waveform encoder, or of KWT's."""

    kind: str = "log-mel"
    """``log-mel`` (KWT: this alone), ``mfcc``, or ``narrow``: its convolutions, ``width`` wide."""
    width: int = 128
    """Numbers a frame inside it."""
    layers: int = 2
    """Convolution blocks in it; 0: none."""
    kernel: int = 9
    """Frames under a convolution over time; odd."""
    mels: int = 40
    """Mel bands."""
    stem_channels: int = 16
    """Of two convolutions over frequency and time before the frames; 0: none."""
    hop_ms: float = 20.0
    """KWT's: from one frame, and so one token, to the next."""
    epochs: int = 20
    """On the teacher's features."""
    whole_epochs: int = 10
    """Of the whole model on the teacher's answers and states, after that."""
    label_epochs: int = 5
    """On labels and the teacher's answers after that."""
    learning_rate: float = 0.0
    """Peak of the schedules; 0: 1e-3 for the front end, teaching's for the whole model."""
    loss: str = "l1-cosine"
    """Of the features: ``l1-cosine`` or ``mse``."""
    distil: bool = True
    """Learn from the teacher; false: the control, on labels alone."""


@dataclass(frozen=True)
class Student:
    """The step ``student``: a small model of our own, built for the data's labels."""

    kind: str = "conv"
    """Its blocks: ``conv``, ``transformer`` or ``frame``; ``cnn``: the bird poster's small CNN."""
    front_end: str = "log-mel"
    """``log-mel``, ``mfcc`` or ``waveform`` (strided convolutions), in the graph."""
    width: int = 96
    """Numbers a frame, between the blocks."""
    layers: int = 6
    """Blocks; 0: the head on the front end alone."""
    expansion: int = 2
    """A block is so many times as wide inside."""
    kernel: int = 9
    """Frames under a convolution over time; odd."""
    heads: int = 4
    """Of a transformer block."""
    mels: int = 40
    """Mel bands (or filters of the waveform front end)."""
    hop_ms: float = 20.0
    """From one frame to the next."""
    frame_ms: float = 25.0
    """Length of a frame."""
    stem_channels: int = 16
    """Of two convolutions over frequency and time before the frames; 0: none."""
    pooling: str = "mean"
    """Over the frames: ``mean``, ``mean-max`` or ``attentive``."""
    epochs: int = 60
    """Against the teacher."""
    label_epochs: int = 6
    """On labels and the teacher's logits after that."""
    learning_rate: float = 0.0
    """Peak of the schedule; 0: 2e-3."""
    mix: float = 0.5
    """Share of the windows that are mixed with another one while only the teacher is learnt from."""
    intermediate: bool = False
    """Every block learns from a block of the teacher, not the last one alone."""
    relation_weight: float = 0.0
    """Weight of the likeness of clips to each other (relational distillation)."""
    distil: bool = True
    """Learn from the teacher; false: the same model on labels alone."""
    init: str = "random"
    """``random``, or ``teacher``: transformer blocks begin with the teacher's weights that fit."""


@dataclass(frozen=True)
class Settings:
    """The whole recipe."""

    steps: tuple[str, ...] = ("depth",)
    """What makes the student smaller, in this order."""
    seeds: int = 3
    """Independent repetitions; the accuracies' spread over them is reported."""
    max_drop: float = 0.01
    """Accuracy that may be lost, as a share of all clips (0.01 is one point)."""
    accelerator: str = "auto"
    """auto, cpu, cuda or mps."""
    precision: str = "full"
    """Of training: ``full``, or ``bf16`` (mixed; it pays on CPUs that have it, too)."""
    clips: Clips = field(default_factory=Clips)
    augment: Augment = field(default_factory=Augment)
    teach: Teach = field(default_factory=Teach)
    score: Score = field(default_factory=Score)
    measure: Measure = field(default_factory=Measure)
    finetune: Finetune = field(default_factory=Finetune)
    prune: Prune = field(default_factory=Prune)
    trim: Trim = field(default_factory=Trim)
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
    "mimic": ("edgeprune.replacement.mimic:mimic", "mimic"),
    "frontend": ("edgeprune.replacement.frontend:frontend", "frontend"),
    "student": ("edgeprune.replacement.student:make_student", "student"),
}
"""Step -> its stage ("module:function", imported when a recipe names it) and its field in
``Settings``."""
