"""Weights of the errors of a module's outputs, against Jacobians worked out by hand and by differences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_models import enliven, heard_by, make_model
from torch import Tensor, nn

from edgeprune.closed_form import logit_sensitivity
from edgeprune.closed_form.logit_sensitivity import LEAST_TOKEN_WEIGHT, sensitivities
from edgeprune.models import loading

Array = NDArray[Any]
TOKENS, INPUTS, HIDDEN, WIDTH, LABELS = 5, 3, 4, 6, 3
SHARES = np.array([0.05, 0.1, 0.2, 0.3, 0.35])


class Tiny(nn.Module):
    """Frames through two layers with a tanh between, a weighted mean over time, and a head."""

    def __init__(self, shares: Array = SHARES) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = SimpleNamespace(model_type="wav2vec2", edgeprune_normalize=False)
        self.first, self.second = nn.Linear(INPUTS, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.head = nn.Linear(WIDTH, LABELS)
        self.shares = torch.from_numpy(shares).float()

    def forward(self, samples: Tensor) -> SimpleNamespace:
        frames = samples.reshape(len(samples), TOKENS, INPUTS)
        hidden = self.second(torch.tanh(self.first(frames)))
        return SimpleNamespace(logits=self.head((hidden * self.shares[:, None]).sum(dim=1)))


def batches(count: int = 3, each: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(each, TOKENS * INPUTS, generator=generator) for _ in range(count)]


def of(layer: nn.Linear) -> tuple[Array, Array]:
    return layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()


def squares_by_hand(model: Tiny, heard: list[Tensor]) -> dict[str, Array]:
    """Mean over the windows of each output's squared slopes, summed over the logits."""
    x = torch.cat(heard).double().numpy().reshape(-1, TOKENS, INPUTS)
    (weight, bias), (second, _), (head, _) = of(model.first), of(model.second), of(model.head)
    shares = model.shares.double().numpy()
    bent = 1 - np.tanh(x @ weight.T + bias) ** 2
    by_second = np.einsum("t,kc->ktc", shares, head)
    by_first = np.einsum("t,kc,ch,nth->nkth", shares, head, second, bent)
    return {
        "first": (by_first**2).sum(axis=1).mean(axis=0),
        "second": (by_second**2).sum(axis=0),
        "head": np.ones((1, LABELS)),
    }


@pytest.fixture
def _many_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logit_sensitivity, "DIRECTIONS", 1500)


@pytest.mark.usefixtures("_many_directions")
def test_weights_are_the_mean_squared_slopes_of_the_logits() -> None:
    model = Tiny()
    modules = {name: model.get_submodule(name) for name in ("first", "second", "head")}
    found = sensitivities(model, modules, batches(), 0)
    for name, square in squares_by_hand(model, batches()).items():
        np.testing.assert_allclose(found[name].outputs, square.sum(axis=0), rtol=0.08)
        tokens = square.sum(axis=1)
        np.testing.assert_allclose(found[name].tokens, tokens / tokens.mean(), rtol=0.08)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Give a tiny Whisper in double precision, for differences."""
    folder = make_model(tmp_path_factory.mktemp("m"), "whisper", ("a", "b", "c"), layers=2)
    model = loading.load_model(str(folder), window_samples=4000)
    enliven(model)
    return model.double()


@contextmanager
def pushed(module: nn.Module, token: int, coordinate: int, by: float) -> Iterator[None]:
    def push(_: nn.Module, __: Any, out: Tensor) -> Tensor:
        out = out.clone()
        out[:, token, coordinate] += by
        return out

    hook = module.register_forward_hook(push)
    try:
        with torch.no_grad():
            yield
    finally:
        hook.remove()


def squares_by_differences(model: Any, module: nn.Module, heard: Tensor, coordinate: int) -> Array:
    """Push one coordinate of one token after the other a little up and down: (tokens,)."""
    seen: list[Tensor] = []
    hook = module.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.no_grad():
        loading.logits_of(model, heard)
    hook.remove()
    found = []
    for token in range(seen[0].shape[1]):
        moved = []
        for by in (1e-5, -1e-5):
            with pushed(module, token, coordinate, by):
                moved.append(loading.logits_of(model, heard).numpy())
        found.append((((moved[0] - moved[1]) / 2e-5) ** 2).sum(axis=1).mean())
    return np.array(found)


def test_weights_in_a_real_model_are_what_differences_say(
    whisper: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logit_sensitivity, "DIRECTIONS", 150)
    heard = heard_by(whisper, 4).double()
    layer = whisper.encoder.layers[0]
    modules = {"fc2": layer.fc2, "out": layer.self_attn.out_proj}
    found = sensitivities(whisper, modules, [heard[:2], heard[2:]], 0)
    for name, module in modules.items():
        for coordinate in (0, 7):
            expected = squares_by_differences(whisper, module, heard, coordinate).sum()
            assert float(found[name].outputs[coordinate]) == pytest.approx(expected, rel=0.2)


def test_tokens_weigh_one_on_average() -> None:
    model = Tiny()
    found = sensitivities(model, {"first": model.first, "head": model.head}, batches(), 0)
    assert float(found["first"].tokens.mean()) == pytest.approx(1)
    assert found["first"].tokens.shape == (TOKENS,)
    assert found["head"].tokens.tolist() == pytest.approx([1])


def test_no_token_is_ignored_altogether() -> None:
    model = Tiny(np.array([0, 0, 0, 0, 1.0]))
    tokens = sensitivities(model, {"second": model.second}, batches(), 0)["second"].tokens
    np.testing.assert_allclose(
        tokens / tokens.mean(), [LEAST_TOKEN_WEIGHT] * 4 + [TOKENS], rtol=0.05
    )


def test_windows_count_alike_however_they_are_batched() -> None:
    """Directions are drawn batch by batch, so that this holds for their mean only."""
    model = Tiny()
    heard = torch.cat(batches())
    modules = {"second": model.second}
    one = sensitivities(model, modules, [heard] * 400, 0)["second"].outputs
    other = sensitivities(model, modules, [heard[:5], heard[5:]] * 400, 0)["second"].outputs
    np.testing.assert_allclose(one, other, rtol=0.08)


def test_a_seed_gives_the_same_weights_again() -> None:
    model = Tiny()
    one, same, other = (
        sensitivities(model, {"first": model.first}, batches(), seed)["first"].outputs
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_gradients_weights_and_hooks_are_left_as_they_were() -> None:
    model = Tiny()
    model.second.weight.grad = torch.full_like(model.second.weight, 7)
    model.head.bias.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sensitivities(model, dict(model.named_children()), batches(), 0)
    assert bool((model.second.weight.grad == 7).all())
    assert model.first.weight.grad is None
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["head.bias"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_frozen_model_has_the_same_weights() -> None:
    model = Tiny()
    modules = dict(model.named_children())
    free = sensitivities(model, modules, batches(), 0)
    model.requires_grad_(False)
    with torch.no_grad():
        frozen = sensitivities(model, modules, batches(), 0)
    for name, found in free.items():
        torch.testing.assert_close(frozen[name].outputs, found.outputs)
        torch.testing.assert_close(frozen[name].tokens, found.tokens)
