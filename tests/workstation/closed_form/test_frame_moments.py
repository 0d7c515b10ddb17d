"""Moments over calibration clips, against numpy's on what plain hooks catch."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_models import enliven, heard_by, make_model
from torch import Tensor, nn

from edgeprune.closed_form.frame_moments import add_frames, moments_of, own_moments, paired_moments
from edgeprune.closed_form.least_squares import Moments
from edgeprune.closed_form.logit_sensitivity import LogitSensitivity
from edgeprune.models import loading

Array = NDArray[Any]
EARLY, LATE = "wav2vec2.encoder.layers.0.feed_forward", "wav2vec2.encoder.layers.1.feed_forward"
NAMES = (f"{EARLY}.intermediate_dense", f"{EARLY}.output_dense", f"{LATE}.output_dense")
"""In the order they run."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "m", "wav2vec2", ("a", "b", "c"))


@pytest.fixture
def model(folder: Path) -> Any:
    model = loading.load_model(str(folder))
    enliven(model)
    return model


def batches(model: Any) -> list[Tensor]:
    heard = heard_by(model, 5)
    return [heard[:2], heard[2:]]


def caught(model: Any, name: str) -> tuple[Array, Array]:
    """Run the whole model; return a module's inputs and outputs, windows first."""
    seen: list[tuple[Tensor, Tensor]] = []

    def look(_: nn.Module, args: tuple[Tensor, ...], options: dict[str, Tensor], out: Any) -> None:
        given = args[0] if args else options["hidden_states"]
        seen.append((given, out[0] if isinstance(out, tuple) else out))

    hook = model.get_submodule(name).register_forward_hook(look, with_kwargs=True)
    with torch.no_grad():
        for samples in batches(model):
            loading.logits_of(model, samples)
    hook.remove()
    x, y = (torch.cat(part).double().numpy() for part in zip(*seen, strict=True))
    return x, y


def token_weights(model: Any, name: str) -> Array:
    x, _ = caught(model, name)
    return np.random.default_rng(0).uniform(0.1, 3, x.shape[1] if x.ndim > 2 else 1)


def assert_moments_of(found: Moments, x: Array, y: Array, tokens: Array) -> None:
    """Hold the moments to numpy's covariances of all frames, each with its token's weight."""
    shares = np.broadcast_to(tokens, x.shape[:-1]).ravel()
    x, y = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    expected = np.cov(np.concatenate([x, y], axis=1).T, aweights=shares, ddof=0)
    cov_xx, cov_xy, mean_x, mean_y = (part.numpy() for part in found.covariances())
    inputs = x.shape[1]
    np.testing.assert_allclose(cov_xx, expected[:inputs, :inputs], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(cov_xy, expected[:inputs, inputs:], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean_x, np.average(x, axis=0, weights=shares), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean_y, np.average(y, axis=0, weights=shares), rtol=1e-4, atol=1e-5)
    assert found.frames == len(x)


def own(model: Any, names: tuple[str, ...]) -> dict[str, Moments]:
    weights = {
        name: LogitSensitivity(torch.from_numpy(token_weights(model, name)), torch.empty(0))
        for name in names
    }
    modules = {name: model.get_submodule(name) for name in names}
    return own_moments(model, modules, batches(model), weights)


def test_own_moments_are_numpys_on_what_hooks_catch(model: Any) -> None:
    names = (*NAMES, "classifier")
    found = own(model, names)
    for name in names:
        assert_moments_of(found[name], *caught(model, name), token_weights(model, name))


def test_own_moments_come_in_the_order_the_modules_run(model: Any) -> None:
    assert list(own(model, NAMES[::-1])) == list(NAMES)


def test_outputs_of_a_clip_without_frames_weigh_alike(model: Any) -> None:
    """The head hears one vector per clip, which has no token to weigh it by."""
    x, y = caught(model, "classifier")
    assert x.ndim == 2
    found = own(model, ("classifier",))["classifier"]
    assert_moments_of(found, x, y, np.ones(1))


def test_a_layer_without_a_bias_has_uncentred_moments() -> None:
    assert moments_of(nn.Linear(3, 2)).centred
    found = moments_of(nn.Linear(3, 2, bias=False))
    assert (found.inputs, found.outputs, found.centred) == (3, 2, False)


def test_tokens_are_weighed_in_every_window_of_a_batch() -> None:
    """A batch whose windows have windows of their own, as those of a Swin transformer."""
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((2, 3, 4, 5)), generator.standard_normal((2, 3, 4, 2))
    tokens, found = generator.uniform(0.1, 3, 4), Moments(5, 2)
    add_frames(found, torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(tokens))
    assert_moments_of(found, x, y, tokens)


@pytest.fixture
def changed(model: Any) -> Any:
    """Give the model with other weights in its first layer."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.wav2vec2.encoder.layers[0].parameters():
            parameter.mul_(1.3)
    return other


def paired(changed: Any, model: Any, name: str, stream: str = "") -> Moments:
    tokens = torch.from_numpy(token_weights(model, name))
    return paired_moments(changed, model, name, batches(model), tokens, stream)


@pytest.mark.parametrize("name", [f"{LATE}.output_dense", "classifier"])
def test_inputs_are_the_changed_models_and_targets_the_originals(
    name: str, model: Any, changed: Any
) -> None:
    x, own_y = caught(changed, name)
    own_x, y = caught(model, name)
    assert not np.allclose(x, own_x, atol=1e-2)
    assert not np.allclose(own_y, y, atol=1e-2)
    tokens = token_weights(model, name) if x.ndim > 2 else np.ones(1)
    assert_moments_of(paired(changed, model, name), x, y, tokens)


@pytest.mark.parametrize("stream", ["layers.1", "layers.1.attention", "layers.1.feed_forward"])
def test_targets_make_up_for_what_their_stream_has_drifted(
    stream: str, model: Any, changed: Any
) -> None:
    """Added to the drifted stream, they give what the original's give added to its own."""
    name, source = f"{LATE}.output_dense", f"wav2vec2.encoder.{stream}"
    x, y = caught(changed, name)[0], caught(model, name)[1]
    drifted, held = caught(changed, source)[0], caught(model, source)[0]
    assert not np.allclose(drifted, held, atol=1e-2)
    tokens = token_weights(model, name)
    assert_moments_of(paired(changed, model, name, source), x, y + held - drifted, tokens)


def test_nothing_after_the_module_is_run(model: Any, changed: Any) -> None:
    ran: list[str] = []
    name = f"{LATE}.intermediate_dense"
    tokens = torch.ones(caught(model, name)[0].shape[1])
    for whose, which in (("changed", changed), ("original", model)):
        for later in (name, f"{LATE}.output_dense", "classifier"):
            which.get_submodule(later).register_forward_hook(
                lambda *_, said=f"{whose} {later}": ran.append(said)
            )
    heard = batches(model)
    paired_moments(changed, model, name, heard, tokens)
    assert ran == [f"original {name}"] * len(heard)  # the changed one is left at its inputs


def hooks_of(*models: Any) -> int:
    parts = [part for model in models for part in model.modules()]
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in parts)


def test_no_hook_stays_behind_and_the_models_run_on(model: Any, changed: Any) -> None:
    samples = heard_by(model, 2)
    with torch.no_grad():
        before = [loading.logits_of(each, samples) for each in (changed, model)]
        hooks = hooks_of(changed, model)  # of transformers' own
        paired(changed, model, f"{LATE}.output_dense", "wav2vec2.encoder.layers.1")
        own(model, NAMES)
        after = [loading.logits_of(each, samples) for each in (changed, model)]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert hooks_of(changed, model) == hooks


def test_a_module_that_is_never_run_is_an_error(model: Any) -> None:
    model.stray = nn.Linear(16, 16)
    with pytest.raises(RuntimeError, match="did not run"):
        paired_moments(model, model, "stray", batches(model), torch.ones(1))
