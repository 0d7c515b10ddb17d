"""Table of the *units* of each model family: what can be trimmed.

A unit is kept or removed as a whole: an attention head, a column of a feed-forward layer, a channel
of a convolution, a coordinate of the hidden state. A group is a set of units side by side (the
heads of block 3), with every place in the model that holds their coordinates. A row of the table
describes such a group, or one per block (``units`` finds them in a model):

    #, &       a number: one group for each that the first place is found with; #+1 is the next one
    $          the highest number
    *          every number: all of these places belong to the one group
    ?          the place may be missing (not every model of the family has it)
    last       only in the last group of the row
    with X     only if the model has X; without X: only if it does not
    /          path from the model; otherwise from its ``base_model``

A place is a role and a path:

    out        the module computes these coordinates: rows of its weight, and its bias
    in         the module takes them as input: columns of its weight; its input is masked
    gated      as ``out``, if no module takes them as input: its output is masked
    norm       the module normalizes over them, or each by itself
    grouped    a grouped convolution takes and computes them: a unit is one coordinate per group
    depthwise  a convolution of each coordinate by itself
    param N    they are dimension N of a tensor

If a place has several coordinates per unit, they are interleaved (0 1 2 0 1 2), as in a gated
linear unit or a flattened feature map; heads, and places marked ``:side``, are contiguous
(0 0 1 1 2 2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgeprune.core.settings import UNITS

KINDS = UNITS
HEADS, FEED_FORWARD, CHANNELS, HIDDEN = KINDS


@dataclass(frozen=True)
class UnitRow:
    """A row of the table: a group, or one per block."""

    name: str
    kind: str
    places: tuple[str, ...]
    """Places; the first one gives the number of units."""
    size: str = ""
    """Heads: attribute "path:name" with the coordinates per head or, as "path:/name", the number of
    heads."""
    counts: tuple[str, ...] = ()
    """Attributes "path:name" with the number of units."""
    widths: tuple[str, ...] = ()
    """Attributes "path:name" with the number of coordinates of the first place."""
    each: int = 1
    """Coordinates of the first place per unit."""
    single: str = ""
    """Only if this attribute is 1."""
    only: tuple[str, str] = ("", "")
    """Only if this field of the config has this value."""
    unless: tuple[str, str] = ("", "")
    """Not if this field of the config has this value."""
    why: str = ""
    """Reason why it then cannot be trimmed, as a sentence."""
    states: bool = False
    """Whether these are the coordinates of the last hidden state."""


def _places(block: str, *places: str) -> tuple[str, ...]:
    """Insert the block's path into places that begin with it."""
    return tuple(place.replace("@", block) for place in places)


def _attention(
    attention: str, made: str, output: str, name: str = "heads.#", **more: str
) -> UnitRow:
    """Return the row of a block's heads, from the layers that compute them and the one after."""
    size, count = more.get("size", "head_dim"), more.get("count", "num_heads")
    return UnitRow(name, HEADS, (*(f"out {attention}.{x}" for x in made.split()), f"in {attention}.{output}"),
                   size=f"{attention}:{size}", counts=(f"{attention}:{count}",))  # fmt: skip


def _feed(first: str, second: str, name: str = "feed-forward.#") -> UnitRow:
    return UnitRow(name, FEED_FORWARD, (f"out {first}", f"in {second}"))


def _ours(blocks: str) -> tuple[UnitRow, ...]:
    """Return the rows of edgeprune's own parts among the blocks: mimics."""
    part = f"{blocks}.#.layers.&"
    return (
        UnitRow("mimic.#.&", FEED_FORWARD, (f"out {part}.inner", f"norm? {part}.norm",
                                            f"in {part}.outer")),
        UnitRow("mimic.#.&", FEED_FORWARD, (f"out {part}.expand", f"norm {part}.norm_hidden",
                                            f"in {part}.project")),
        UnitRow("mimic-width.#.&", FEED_FORWARD, (
            f"out {part}.enter", f"norm {part}.block.norm_attention", f"in {part}.block.q",
            f"in {part}.block.k", f"in {part}.block.v", f"out {part}.block.out",
            f"norm {part}.block.norm_feed", f"in {part}.block.inner", f"out {part}.block.outer",
            f"in {part}.leave",
        )),
        UnitRow("mimic.#.&", FEED_FORWARD, (f"out {part}.block.inner", f"in {part}.block.outer")),
        UnitRow("mimic-heads.#.&", HEADS, (
            f"out {part}.block.q", f"out {part}.block.k", f"out {part}.block.v",
            f"in {part}.block.out",
        ), size=f"{part}.block:/heads", counts=(f"{part}.block:heads",)),
    )  # fmt: skip


def _ours_hidden(blocks: str) -> tuple[str, ...]:
    """Return where edgeprune's own parts among and after the blocks use the hidden state."""
    part = f"{blocks}.*.layers.*"
    return (
        f"in? {blocks}.*.bridge", f"out? {blocks}.*.bridge", f"in? {part}.inner",
        f"out? {part}.outer", f"depthwise? {part}.depthwise", f"with {part}.depthwise norm {part}.norm",
        f"in? {part}.expand", f"out? {part}.project", f"norm? {part}.norm_out", f"in? {part}.enter",
        f"out? {part}.leave", f"in? {blocks}.*.carried", f"out? {blocks}.*.carried",
        f"in? {blocks}.*.gathered", f"out? {blocks}.*.gathered",
    )  # fmt: skip


_READERS = (
    "in? /projector", "in? /lm_head", "in? /lm_head.lstm", "without /projector in? /classifier",
    "without /projector in? /classifier.hidden", "in? /head", "in? /head.hidden",
)  # fmt: skip
_HEAD = (
    _feed("/projector", "/classifier", "projector"),
    *(_feed(f"/{p}.hidden", f"/{p}.out", "head") for p in ("classifier", "head", "fc_audioset")),
)

_WAVE_FRONT = UnitRow("front.#", CHANNELS, (
    "out feature_extractor.conv_layers.#.conv", "norm? feature_extractor.conv_layers.#.layer_norm",
    "in? feature_extractor.conv_layers.#+1.conv",
    "last norm feature_projection.layer_norm", "last in feature_projection.projection",
))  # fmt: skip
_WAVE_HEADS = _attention("encoder.layers.#.attention", "q_proj k_proj v_proj", "out_proj")
_WAVE_BLOCK = _places(
    "encoder.layers.*",
    "in? @.attention.q_proj", "in? @.attention.k_proj", "in? @.attention.v_proj",
    "out? @.attention.out_proj", "in? @.attention.gate", "norm? @.layer_norm",
    "in? @.feed_forward.intermediate_dense", "out? @.feed_forward.output_dense",
    "norm? @.final_layer_norm",
)  # fmt: skip
_WAVE_HIDDEN = UnitRow("hidden", HIDDEN, (
    "grouped? encoder.pos_conv_embed.conv", "out feature_projection.projection",
    "param? masked_spec_embed 0", "norm? encoder.layer_norm", *_WAVE_BLOCK,
    *_ours_hidden("encoder.layers"), *_READERS,
), states=True)  # fmt: skip
_WAVE = (
    _WAVE_FRONT, _WAVE_HEADS,
    _feed("encoder.layers.#.feed_forward.intermediate_dense",
          "encoder.layers.#.feed_forward.output_dense"),
    _WAVE_HIDDEN, *_ours("encoder.layers"), *_HEAD,
)  # fmt: skip
_SEW = (
    replace(_WAVE_FRONT, places=(
        *_WAVE_FRONT.places[:3], "last norm layer_norm", "last in? feature_projection",
    )),
    _WAVE_HEADS, _WAVE[2],
    replace(_WAVE_HIDDEN, places=(
        "grouped? encoder.pos_conv_embed.conv", "out? feature_projection",
        # Without a projection the last convolution computes the hidden state.
        "without feature_projection out feature_extractor.conv_layers.$.conv",
        "without feature_projection norm? feature_extractor.conv_layers.$.layer_norm",
        "without feature_projection norm layer_norm",
        *_WAVE_HIDDEN.places[2:], "in encoder.upsample.projection",
        "out encoder.upsample.projection",
    )),
    *_WAVE[4:],
)  # fmt: skip

_CONFORMER_HEADS = UnitRow("heads.#", HEADS, _places(
    "encoder.layers.#.self_attn", "out @.linear_q", "out @.linear_k", "out @.linear_v",
    "in @.linear_out", "out? @.linear_pos", "param? @.pos_bias_u 0", "param? @.pos_bias_v 0",
), size="encoder.layers.#.self_attn:head_size")  # fmt: skip
_CONFORMER = (
    # Rotary positions are applied to the original number of heads, so their count stays.
    replace(_CONFORMER_HEADS, counts=("encoder.layers.#.self_attn:num_heads",),
            unless=("position_embeddings_type", "rotary")),
    replace(_CONFORMER_HEADS, only=("position_embeddings_type", "rotary")),
    *(_feed(f"encoder.layers.#.{n}.intermediate_dense", f"encoder.layers.#.{n}.output_dense",
            f"{n}.#") for n in ("ffn1", "ffn2")),
    UnitRow("convolution.#", CHANNELS, _places(
        "encoder.layers.#.conv_module", "depthwise @.depthwise_conv", "out @.pointwise_conv1",
        "norm? @.batch_norm", "norm? @.depthwise_layer_norm", "in @.pointwise_conv2",
    )),
    UnitRow("hidden", HIDDEN, (
        "out feature_projection.projection", "param? masked_spec_embed 0",
        "norm? encoder.layer_norm", *_places(
            "encoder.layers.*", "norm? @.ffn1_layer_norm", "in? @.ffn1.intermediate_dense",
            "out? @.ffn1.output_dense", "norm? @.self_attn_layer_norm", "in? @.self_attn.linear_q",
            "in? @.self_attn.linear_k", "in? @.self_attn.linear_v", "out? @.self_attn.linear_out",
            "norm? @.conv_module.layer_norm", "in? @.conv_module.pointwise_conv1",
            "out? @.conv_module.pointwise_conv2", "norm? @.ffn2_layer_norm",
            "in? @.ffn2.intermediate_dense", "out? @.ffn2.output_dense", "norm? @.final_layer_norm",
        ), *_ours_hidden("encoder.layers"), *_READERS,
    ), states=True, unless=("position_embeddings_type", "rotary"),
        why="the hidden size cannot be trimmed: rotary positions rotate its coordinates in pairs"),
    *_ours("encoder.layers"), *_HEAD,
)  # fmt: skip

_KWT_BLOCK = _places(
    "blocks.*", "in? @.attn.q", "in? @.attn.k", "in? @.attn.v", "out? @.attn.out", "norm? @.norm1",
    "in? @.mlp.fc1", "out? @.mlp.fc2", "norm? @.norm2",
)  # fmt: skip
_KWT = (
    UnitRow("heads.#", HEADS, ("out blocks.#.attn.q", "out blocks.#.attn.k", "out blocks.#.attn.v",
                               "in blocks.#.attn.out"),
            size="blocks.#.attn:/heads", counts=("blocks.#.attn:heads",)),
    # A block with one head: what can go are its coordinates.
    UnitRow("keys.#", HEADS, ("gated blocks.#.attn.q", "out blocks.#.attn.k"),
            single="blocks.#.attn:heads"),
    UnitRow("values.#", HEADS, ("out blocks.#.attn.v", "in blocks.#.attn.out"),
            single="blocks.#.attn:heads"),
    _feed("blocks.#.mlp.fc1", "blocks.#.mlp.fc2"),
    UnitRow("hidden", HIDDEN, (
        "out embed", "param cls_token 2", "param pos_embed 2", *_KWT_BLOCK,
        *_ours_hidden("blocks"), *_READERS,
    ), states=True),
    *_ours("blocks"), *_HEAD,
)  # fmt: skip

_AST = (
    _attention("layers.#.attention", "q_proj k_proj v_proj", "o_proj", count="num_attention_heads"),
    _feed("layers.#.mlp.fc1", "layers.#.mlp.fc2"),
    UnitRow("hidden", HIDDEN, (
        "out embeddings.patch_embeddings.projection", "param embeddings.cls_token 2",
        "param embeddings.distillation_token 2", "param embeddings.position_embeddings 2",
        *_places(
            "layers.*", "norm? @.layernorm_before", "in? @.attention.q_proj",
            "in? @.attention.k_proj", "in? @.attention.v_proj", "out? @.attention.o_proj",
            "norm? @.layernorm_after", "in? @.mlp.fc1", "out? @.mlp.fc2",
        ), "norm layernorm", "norm? /classifier.layernorm", "in? /classifier.dense",
        "in? /classifier.hidden", *_ours_hidden("layers"),
    ), states=True),
    *_ours("layers"), *_HEAD,
)  # fmt: skip

_WHISPER = (
    UnitRow("front.0", CHANNELS, ("out encoder.conv1", "in encoder.conv2")),
    _attention("encoder.layers.#.self_attn", "q_proj k_proj v_proj", "out_proj"),
    _feed("encoder.layers.#.fc1", "encoder.layers.#.fc2"),
    UnitRow("hidden", HIDDEN, (
        "out encoder.conv2", "out encoder.embed_positions",
        *_places(
            "encoder.layers.*", "norm? @.self_attn_layer_norm", "in? @.self_attn.q_proj",
            "in? @.self_attn.k_proj", "in? @.self_attn.v_proj", "out? @.self_attn.out_proj",
            "norm? @.final_layer_norm", "in? @.fc1", "out? @.fc2",
        ), "norm encoder.layer_norm", *_ours_hidden("encoder.layers"), *_READERS,
    ), states=True, each=2),  # transformers builds its sinusoids for even widths only
    *_ours("encoder.layers"), *_HEAD,
)  # fmt: skip

_SWIN = "audio_encoder.layers.#.blocks.&"
_CLAP = (
    replace(
        _attention(f"{_SWIN}.attention.self", "query key value", "x", "heads.#.&",
                   size="attention_head_size", count="num_attention_heads"),
        places=(*(f"out {_SWIN}.attention.self.{x}" for x in ("query", "key", "value")),
                f"param {_SWIN}.attention.self.relative_position_bias_table 1",
                f"in {_SWIN}.attention.output.dense"),
        widths=(f"{_SWIN}.attention.self:all_head_size",),
    ),
    _feed(f"{_SWIN}.intermediate.dense", f"{_SWIN}.output.dense", "feed-forward.#.&"),
    UnitRow("hidden", HIDDEN, ("in /classifier",), states=True, unless=("model_type", "clap_audio_model"),
            why="the hidden size cannot be trimmed: each stage of this model must be twice as wide "
            "as the one before"),
    *_HEAD,
)  # fmt: skip

_CNN14 = (
    UnitRow("inner.#", CHANNELS, ("out conv_block#.conv1", "norm conv_block#.bn1",
                                  "in conv_block#.conv2")),
    UnitRow("outer.#", CHANNELS, ("out conv_block#.conv2", "norm conv_block#.bn2",
                                  "in? conv_block#+1.conv1", "last in fc1"), states=True),
    UnitRow("fc1", FEED_FORWARD, ("out fc1", "in? /fc_audioset", "in? /fc_audioset.hidden")),
    *_HEAD,
)  # fmt: skip

_STUDENT_BLOCK = _places(
    "blocks.*", "depthwise? @.depthwise", "with @.depthwise norm @.norm", "in? @.expand",
    "out? @.project", "norm? @.norm_out", "norm? @.norm_attention", "in? @.q", "in? @.k", "in? @.v",
    "out? @.out", "norm? @.norm_feed", "in? @.inner", "out? @.outer",
)  # fmt: skip
_STUDENT = (
    UnitRow("stem", CHANNELS, ("out stem.first", "norm? stem.norm_first",
                               "with stem.mix depthwise stem.second",
                               "norm? stem.norm_second", "in? stem.mix",
                               "without stem.mix in? stem.second")),
    UnitRow("stem-mix", CHANNELS, ("with stem.first out stem.mix",
                                   "with stem.first norm stem.norm_mix",
                                   "with stem.first in:side stem.project")),
    UnitRow("stem-filters", CHANNELS, ("norm stem.norm_filters", "out stem.filters", "in stem.mix")),
    UnitRow("heads.#", HEADS, ("out blocks.#.q", "out blocks.#.k", "out blocks.#.v", "in blocks.#.out"),
            size="blocks.#:/heads", counts=("blocks.#:heads",)),
    UnitRow("feed-forward.#", FEED_FORWARD, ("out blocks.#.expand", "norm blocks.#.norm_hidden",
                                             "in blocks.#.project")),
    UnitRow("feed-forward.#", FEED_FORWARD, ("out blocks.#.inner", "without blocks.#.expand norm? "
                                             "blocks.#.norm", "in blocks.#.outer")),
    UnitRow("hidden", HIDDEN, (
        "out? stem.project", "norm? stem.norm_out", "with stem.filters out stem.mix",
        "with stem.filters norm stem.norm_mix", "without stem.mix out? stem.second",
        "depthwise? positions", *_STUDENT_BLOCK, *_ours_hidden("blocks"), "in? /head.attention",
        "in? /head.hidden", "without /head.hidden in? /head.linear",
        "without /head.hidden in? /head.linear.hidden", *_READERS[1:3],
    ), states=True),
    UnitRow("head", FEED_FORWARD, ("out /head.hidden", "in? /head.linear", "in? /head.linear.hidden")),
    _feed("/head.linear.hidden", "/head.linear.out", "head.mlp"),
)  # fmt: skip

ROWS: dict[str, tuple[UnitRow, ...]] = {  # by config.model_type
    "wav2vec2": _WAVE,
    "hubert": _WAVE,
    "unispeech-sat": _WAVE,
    # Attention of edgeprune's own, see models.wavlm_attention.
    "wavlm": (_WAVE_FRONT, replace(_WAVE_HEADS, places=(
        *_WAVE_HEADS.places, "out encoder.layers.#.attention.gate",
        "param encoder.layers.#.attention.gru_rel_pos_const 1",
        "param encoder.layers.#.attention.heads 0",
    )), *_WAVE[2:]),
    "data2vec-audio": (*_WAVE[:3], replace(_WAVE_HIDDEN, places=(
        "grouped? encoder.pos_conv_embed.layers.*.conv",
        "norm? encoder.pos_conv_embed.layers.*.layer_norm", *_WAVE_HIDDEN.places[1:],
    )), *_WAVE[4:]),
    "sew": _SEW,
    "wav2vec2-conformer": (_WAVE_FRONT, *_CONFORMER),
    "wav2vec2-bert": _CONFORMER,
    "audio-spectrogram-transformer": _AST,
    "whisper": _WHISPER,
    "clap_audio_model": _CLAP,
    "kwt": _KWT,
    "cnn14": _CNN14,
    "edgeprune-student": _STUDENT,
}  # fmt: skip
