"""Models loaded with a head for the labels, run on samples, and saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from model_sounds import sounds
from slow_cases import families
from tiny_heads import TAGS, load_with_head
from tiny_models import FAMILY_NAMES, heard_by, make_model
from tiny_recordings import RATE, TONES
from transformers import AutoModel, Wav2Vec2FeatureExtractor

from edgeprune.models import checkpoints, loading
from edgeprune.width_pruning.removal import trim_to
from edgeprune.width_pruning.units import groups_of
from edgeprune_device.errors import EdgepruneError

LABELS = tuple(TONES)
SAMPLES = 4000


@pytest.mark.parametrize("family", families(FAMILY_NAMES))
def test_a_fresh_head_is_fresh_whatever_the_number_of_labels(family: str, tmp_path: Path) -> None:
    """As many labels as the checkpoint knows, but others: nothing of its head is left."""
    folder = make_model(tmp_path / "m", family, LABELS)
    own = loading.load_model(str(folder))
    fresh = loading.load_model(str(folder), ("x", "y", "z"))
    same = loading.load_model(str(folder), LABELS)
    old, new, kept = (
        [p for p in loading.head_parameters(m) if p.dim() > 1] for m in (own, fresh, same)
    )
    assert old
    assert not any(torch.equal(a, b) for a, b in zip(old, new, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(old, kept, strict=True))
    assert all(torch.isfinite(p).all() for p in loading.head_parameters(fresh))
    heads = {id(p) for m in (own, fresh) for p in loading.head_parameters(m)}
    for (name, a), b in zip(own.named_parameters(), fresh.parameters(), strict=True):
        assert id(a) in heads or torch.equal(a, b), name


@pytest.mark.parametrize("head", ["own", "mlp"])
@pytest.mark.parametrize("family", ["kwt", "wav2vec2", "audio-spectrogram-transformer",
                                    "edgeprune-student"])  # fmt: skip
def test_a_model_trimmed_in_width_takes_other_labels(
    family: str, head: str, tmp_path: Path
) -> None:
    """The head reads the trimmed width and gives the new labels; what is under it stays."""
    folder = make_model(tmp_path / "m", family, TAGS)
    model = loading.load_model(str(folder), TAGS, head=head, window_samples=RATE)
    width = narrow_hidden(model)
    loading.save(model, tmp_path / "narrow")
    sound = torch.randn(2, RATE) * 0.1
    for asked in ("own", "mlp"):
        other = loading.load_model(str(tmp_path / "narrow"), ("x", "y", "z"), head=asked)
        with torch.inference_mode():
            logits, states = loading.logits_and_states(other, sound)
            before = loading.logits_and_states(model, sound)[1]
        assert logits.shape == (2, 3)
        assert states[-1].shape[-1] == width
        assert torch.equal(states[-1], before[-1])
        loading.save(other, tmp_path / f"other-{asked}")
        again = loading.load_model(str(tmp_path / f"other-{asked}"))
        with torch.inference_mode():
            assert torch.equal(loading.logits_of(again, sound), logits)


def narrow_hidden(model: Any) -> int:
    """Leave five eighths of the hidden coordinates, as the step trim does; returns how many."""
    (group,) = groups_of(model, ("hidden",))
    trim_to(model, {group.name: range(group.units * 5 // 8)})
    return 10


def test_a_head_of_another_task_is_not_taken_for_ones_own(backbone: Path, tmp_path: Path) -> None:
    loading.save(load_with_head(backbone, "tags", "own", TAGS), tmp_path / "m")
    assert loading.load_for(str(tmp_path / "m"), TAGS, task="tags")[2]
    assert not loading.load_for(str(tmp_path / "m"), TAGS, task="classes")[2]


def test_other_labels_take_the_place_of_a_head_of_ours(backbone: Path, tmp_path: Path) -> None:
    loading.save(load_with_head(backbone, "classes", "mlp", TAGS), tmp_path / "m")
    other = loading.load_model(str(tmp_path / "m"), ("x", "y", "z"))
    with torch.inference_mode():
        assert loading.logits_of(other, torch.zeros(1, SAMPLES)).shape == (1, 3)


@pytest.mark.parametrize("family", families(FAMILY_NAMES))
def test_a_model_without_a_head_gets_one_for_the_labels(family: str, tmp_path: Path) -> None:
    folder = make_model(tmp_path / family, family)
    assert checkpoints.read_checkpoint(str(folder)).labels() == ()
    model = loading.load_model(str(folder), ("a", "b", "c", "d"))
    assert loading.logits_of(model, heard_by(model, 2)).shape == (2, 4)
    backbone = AutoModel.from_pretrained(folder).state_dict()
    loaded = model.base_model.state_dict()
    left_out = {name for name in set(backbone) - set(loaded) if not name.startswith("decoder.")}
    assert left_out <= {"masked_spec_embed"}  # of masked training alone
    assert set(loaded) & set(backbone)
    assert all(torch.equal(loaded[name], backbone[name]) for name in set(loaded) & set(backbone))


def test_rotary_positions_can_be_trained_through_after_inference(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m", "wav2vec2-conformer", LABELS)
    model = loading.load_model(str(folder))
    heard = sounds(model, 0.25)
    with torch.inference_mode():
        loading.logits_of(model, heard)
    loading.logits_of(model.train(), heard).sum().backward()  # type: ignore[no-untyped-call]


def test_samples_are_scaled_as_transformers_extractor_scales_them(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", "wav2vec2", LABELS)))
    heard = 3 + 0.2 * torch.randn(2, SAMPLES, generator=torch.Generator().manual_seed(0))
    assert model.config.edgeprune_normalize
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    expected = extractor(list(heard.numpy()), sampling_rate=RATE, return_tensors="pt")
    torch.testing.assert_close(loading.prepare(model, heard), expected["input_values"])
    model.config.edgeprune_normalize = False
    assert loading.prepare(model, heard) is heard


@pytest.mark.parametrize("family", ["wav2vec2", "whisper"])
def test_no_layer_vanishes_and_nothing_is_masked_while_a_model_is_trained(
    family: str, tmp_path: Path
) -> None:
    folder = make_model(tmp_path / "m", family, LABELS)
    stated = json.loads((folder / "config.json").read_text("utf-8"))
    stated |= {"layerdrop": 0.5, "encoder_layerdrop": 0.5, "mask_time_prob": 0.9}
    (folder / "config.json").write_text(json.dumps(stated), "utf-8")
    model = loading.load_model(str(folder)).train()
    heard = sounds(model, 0.5)
    torch.testing.assert_close(loading.logits_of(model, heard), loading.logits_of(model, heard))


def test_a_model_comes_in_evaluation_and_single_precision_whatever_it_was_saved_in(
    tmp_path: Path,
) -> None:
    folder = make_model(tmp_path / "m", "hubert", LABELS)
    loading.load_model(str(folder)).half().save_pretrained(tmp_path / "half")
    model = loading.load_model(str(tmp_path / "half"))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not model.training


def test_its_own_head_serves_some_of_its_labels_and_keeps_their_order(tmp_path: Path) -> None:
    folder = str(make_model(tmp_path / "m", "hubert", ("c", "a", "b")))
    assert loading.load_for(folder, ("b", "a"))[1:] == (("c", "a", "b"), True)
    model, labels, own = loading.load_for(folder, ("b", "x"))
    assert (labels, own) == (("b", "x"), False)
    assert loading.labels_of(model) == ("b", "x")


def test_weights_that_do_not_belong_to_their_config_are_refused_in_a_sentence(
    tmp_path: Path,
) -> None:
    one, other = (make_model(tmp_path / name, "hubert", LABELS, layers) for name, layers in
                  (("a", 2), ("b", 3)))  # fmt: skip
    stated = json.loads((one / "config.json").read_text("utf-8"))
    stated["hidden_size"], stated["num_attention_heads"] = 32, 4
    (other / "config.json").write_text(json.dumps(stated), "utf-8")
    with pytest.raises(EdgepruneError, match=r"weights of .* cannot be loaded") as error:
        loading.load_model(str(other))
    assert "belongs to config.json" in error.value.hint
    assert "\n" not in str(error.value)


def test_what_is_read_of_a_checkpoint_is_left_as_it_was(tmp_path: Path) -> None:
    checkpoint = checkpoints.read_checkpoint(str(make_model(tmp_path / "m", "whisper", LABELS)))
    before = checkpoint.config.to_dict()
    loading.load_checkpoint(checkpoint, ("x", "y"), window_samples=RATE)
    assert checkpoint.config.to_dict() == before


def test_parameters_are_counted_without_the_front_ends_fixed_numbers(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", "cnn14", LABELS)))
    names = dict(model.named_parameters())
    assert loading.count_parameters(model) == sum(t.numel() for t in names.values())
    assert not [name for name in names if name.startswith("frontend")]
