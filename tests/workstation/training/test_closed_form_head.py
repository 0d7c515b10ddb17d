"""A head fitted in closed form: logits are the fitted map of what the frozen model gives each clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from measured_models import CPU
from numpy.typing import NDArray
from scipy.special import expit, softmax
from tiny_models import enliven, load_tiny, make_model
from tiny_windows import tone_windows

from edgeprune.core.console import Silent
from edgeprune.data.windows import Windows
from edgeprune.models import loading
from edgeprune.training import closed_form_head
from edgeprune.training.closed_form_head import (
    can_fit,
    fit_head,
    has_projection,
    head_features,
    is_linear,
    label_layer,
    refit_head,
    set_head,
)
from edgeprune.training.logistic_regression import LinearHead, fit_linear_head
from edgeprune_device.errors import EdgepruneError

Array = NDArray[np.float64]
PROJECTED = ("whisper", "wav2vec2")
DIRECT = {"kwt": "head", "audio-spectrogram-transformer": "classifier.dense"}
"""Families without a projector -> the linear layer of their labels."""
FAMILIES = (*PROJECTED, *DIRECT)
MANY = tuple(f"label {i}" for i in range(17))
"""One more than a tiny model's projection is wide."""


def lively(folder: Path, family: str) -> Any:
    """Load a tiny model whose clips are far apart: float32 keeps the map of their features."""
    model = load_tiny(folder, family)
    enliven(model)
    return model


def windows(each: int = 8, seconds: float = 1.0) -> Windows:
    """Make tones of a second, half of them for training and a quarter for validation."""
    tones = tone_windows(each, seconds)
    splits = ("train", "train", "valid", "test")
    rows = ({**row, "split": splits[i % 4]} for i, row in enumerate(tones.rows))
    return replace(tones, rows=tuple(rows))


def fitted(model: Any, heard: Windows) -> LinearHead:
    return fit_head(model, heard, loading.labels_of(model), CPU, Silent())


def features_of(model: Any, heard: Windows) -> Array:
    return head_features(model, heard, CPU, Silent(), "").double().numpy()


def logits_of(model: Any, heard: Windows) -> Array:
    with torch.no_grad():
        return loading.logits_of(model, torch.from_numpy(heard.samples)).double().numpy()


def inputs_of(model: Any, path: str, heard: Windows) -> Array:
    """Run the whole model and return what a module in it was given."""
    seen: list[torch.Tensor] = []
    hook = model.get_submodule(path).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    logits_of(model, heard)
    hook.remove()
    return seen[0].double().numpy()


def mapped(head: LinearHead, features: Array) -> Array:
    return np.asarray(features @ head.weight.double().numpy().T + head.bias.double().numpy())


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_the_fitted_map_of_the_features(family: str, tmp_path: Path) -> None:
    model, heard = lively(tmp_path, family), windows()
    features = features_of(model, heard)
    expected = mapped(fitted(model, heard), features)
    found = logits_of(model, heard)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(features_of(model, heard), features, rtol=1e-5)


@pytest.mark.parametrize("family", PROJECTED)
def test_features_before_a_projection_are_means_over_time(family: str, tmp_path: Path) -> None:
    model, heard = lively(tmp_path, family), windows(each=2)
    frames = inputs_of(model, "projector", heard)
    assert frames.ndim == 3
    assert has_projection(model)
    np.testing.assert_allclose(features_of(model, heard), frames.mean(axis=1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", DIRECT)
def test_features_without_a_projection_are_the_last_layers_input(
    family: str, tmp_path: Path
) -> None:
    model, heard = lively(tmp_path, family), windows(each=2)
    assert not has_projection(model)
    assert label_layer(model) is model.get_submodule(DIRECT[family])
    expected = inputs_of(model, DIRECT[family], heard)
    np.testing.assert_allclose(features_of(model, heard), expected, rtol=1e-5)


def test_more_labels_than_the_projection_is_wide_leave_it_as_it_is(tmp_path: Path) -> None:
    known = tuple(sorted(("low", "middle", "high", *MANY[3:])))
    model, heard = loading.load_model(str(make_model(tmp_path, "whisper", known))), windows()
    assert len(known) > model.projector.out_features
    before = model.projector.weight.clone()
    features = inputs_of(model, "classifier", heard)
    np.testing.assert_allclose(features_of(model, heard), features, rtol=1e-5)
    expected = mapped(fitted(model, heard), features)
    assert torch.equal(model.projector.weight, before)
    np.testing.assert_allclose(
        logits_of(model, heard), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
    )


def test_as_many_labels_as_the_projection_is_wide_fill_it(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path, "whisper", MANY[:16])))
    assert has_projection(model)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(16, 16, generator=generator), torch.randn(16, generator=generator)
    head, heard = LinearHead(*drawn, penalty=1.0), windows(each=1)
    set_head(model, head)
    np.testing.assert_allclose(
        logits_of(model, heard), mapped(head, features_of(model, heard)), rtol=1e-4, atol=1e-4
    )


def test_features_come_batch_after_batch_in_the_order_of_the_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, heard = lively(tmp_path, "whisper"), windows(each=3)
    together = features_of(model, heard)
    monkeypatch.setattr(closed_form_head, "BATCH", 4)
    in_batches = features_of(model, heard)
    assert in_batches.shape == (9, 16)
    np.testing.assert_allclose(in_batches, together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_outside_the_head_changes(family: str, tmp_path: Path) -> None:
    model = lively(tmp_path, family)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fitted(model, windows())
    head = ("projector.", "classifier.") if family in PROJECTED else (f"{DIRECT[family]}.",)
    changed = {n for n, tensor in model.state_dict().items() if not torch.equal(tensor, before[n])}
    assert changed == {n for n in before if n.startswith(head)}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_is_the_regression_on_the_training_clips(family: str, tmp_path: Path) -> None:
    """At the least penalized loss, what a clip's label gets too little of sums to nothing."""
    model, heard = lively(tmp_path, family), windows()
    fitted(model, heard)
    train = heard.split("train")
    truth = np.eye(3)[train.targets(loading.labels_of(model))]
    residual = softmax(logits_of(model, train), axis=1) - truth
    assert np.abs(residual.mean(axis=0)).max() < 1e-4


def test_tags_get_a_regression_each(tmp_path: Path) -> None:
    model, heard = lively(tmp_path, "wav2vec2"), windows()
    rows = ({**row, "label": ("low;high", "low", "", "middle")[i % 3]}
            for i, row in enumerate(heard.rows))  # fmt: skip
    heard = replace(heard, task="tags", rows=tuple(rows))
    fitted(model, heard)
    train = heard.split("train")
    wanted = [[tag in cell.split(";") for tag in loading.labels_of(model)]
              for cell in train.column("label")]  # fmt: skip
    shares = expit(logits_of(model, train)).mean(axis=0)
    np.testing.assert_allclose(shares, np.mean(wanted, axis=0), atol=1e-4)


def test_the_test_clips_are_not_heard(tmp_path: Path) -> None:
    """Other sounds in the test split leave the head the same."""
    model, heard = lively(tmp_path, "wav2vec2"), windows()
    samples = heard.samples.copy()
    samples[heard.where("test")] = np.random.default_rng(0).normal(size=samples.shape[1])
    one, other = fitted(model, heard), fitted(model, replace(heard, samples=samples))
    assert torch.equal(one.weight, other.weight)
    assert one.penalty == other.penalty


def test_a_transcript_is_refused_in_a_sentence(tmp_path: Path) -> None:
    model, heard = lively(tmp_path, "wav2vec2"), replace(windows(each=4), task="ctc")
    with pytest.raises(EdgepruneError, match=r"^A transcript's head cannot be fitted"):
        fitted(model, heard)
    assert not can_fit(model, heard, loading.labels_of(model))
    assert not refit_head(model, heard, loading.labels_of(model), CPU, Silent())


def test_a_model_without_a_linear_layer_for_its_labels_is_refused(tmp_path: Path) -> None:
    model = lively(tmp_path, "kwt")
    model.head = torch.nn.Identity()
    with pytest.raises(EdgepruneError, match="head of a kwt model has no linear layer"):
        label_layer(model)
    assert not can_fit(model, windows(), loading.labels_of(model))


def test_labels_that_no_clip_has_cannot_be_fitted(tmp_path: Path) -> None:
    model, heard = lively(tmp_path, "kwt"), windows()
    assert can_fit(model, heard, loading.labels_of(model))
    assert not can_fit(model, heard, (*loading.labels_of(model), "crane"))


def test_a_head_with_hidden_units_is_fitted_behind_them(tmp_path: Path) -> None:
    folder = make_model(tmp_path, "wav2vec2", ("x",))
    model = loading.load_model(str(folder), ("low", "middle", "high"), head="mlp")
    heard = windows()
    assert not is_linear(model)
    assert is_linear(loading.load_model(str(folder)))
    before = model.classifier.hidden.weight.clone()
    features = inputs_of(model, "classifier.out", heard)
    expected = mapped(fitted(model, heard), features)
    assert torch.equal(model.classifier.hidden.weight, before)
    np.testing.assert_allclose(
        logits_of(model, heard), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
    )


@pytest.mark.parametrize("family", ["whisper", "kwt"])
def test_a_head_that_does_better_on_validation_stays(family: str, tmp_path: Path) -> None:
    """One that was fitted to the validation clips themselves does better than any other."""
    model, heard = lively(tmp_path, family), windows()
    labels, valid = loading.labels_of(model), heard.split("valid")
    features = head_features(model, valid, CPU, Silent(), "")
    targets = torch.from_numpy(valid.targets(labels))
    set_head(model, fit_linear_head((features, targets), None, len(labels), (1e-8,)))
    best = logits_of(model, heard)
    assert not refit_head(model, heard, labels, CPU, Silent())
    np.testing.assert_array_equal(logits_of(model, heard), best)


@pytest.mark.parametrize("family", ["whisper", "kwt"])
def test_a_head_that_does_worse_is_fitted_again(family: str, tmp_path: Path) -> None:
    model, heard = lively(tmp_path, family), windows()
    expected = mapped(fitted(model, heard), features_of(model, heard))
    with torch.no_grad():
        label_layer(model).weight.neg_()
    assert refit_head(model, heard, loading.labels_of(model), CPU, Silent())
    np.testing.assert_allclose(
        logits_of(model, heard), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
    )
