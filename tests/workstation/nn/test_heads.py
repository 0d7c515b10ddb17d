"""Heads: what each makes of features and frames, by numpy."""

from __future__ import annotations

import numpy as np
import torch

from edgeprune.nn.heads import BiLstmHead, IdentityProjection, MlpHead


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


def test_the_mlp_is_one_layer_of_relu_units_and_one_of_logits() -> None:
    torch.manual_seed(0)
    head, features = MlpHead(5, 3, 7), drawn(4, 5)
    weights = {name: tensor.detach().numpy() for name, tensor in head.named_parameters()}
    units = np.maximum(0, features.numpy() @ weights["hidden.weight"].T + weights["hidden.bias"])
    expected = units @ weights["out.weight"].T + weights["out.bias"]
    with torch.inference_mode():
        np.testing.assert_allclose(head(features).numpy(), expected, atol=1e-6)
    assert units.shape == (4, 7)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def lstm_by_hand(weights: dict[str, np.ndarray], suffix: str, frames: np.ndarray) -> np.ndarray:
    """Run one direction of one layer over frames (n, inputs), step by step."""
    w, u = weights[f"weight_ih_{suffix}"], weights[f"weight_hh_{suffix}"]
    b = weights[f"bias_ih_{suffix}"] + weights[f"bias_hh_{suffix}"]
    hidden = cell = np.zeros(u.shape[1])
    found = []
    for frame in frames:
        gates = w @ frame + u @ hidden + b
        enter, forget, new, leave = np.split(gates, 4)
        cell = sigmoid(forget) * cell + sigmoid(enter) * np.tanh(new)
        hidden = sigmoid(leave) * np.tanh(cell)
        found.append(hidden)
    return np.array(found)


def test_the_bilstm_is_two_passes_over_the_frames_in_every_layer() -> None:
    torch.manual_seed(0)
    head, states = BiLstmHead(3, 4, 5, layers=2), drawn(1, 6, 3)
    weights = {name: t.detach().numpy() for name, t in head.lstm.named_parameters()}
    frames = states[0].numpy()
    for layer in ("l0", "l1"):
        there = lstm_by_hand(weights, layer, frames)
        back = lstm_by_hand(weights, f"{layer}_reverse", frames[::-1])[::-1]
        frames = np.concatenate([there, back], axis=1)
    expected = frames @ head.out.weight.detach().numpy().T + head.out.bias.detach().numpy()
    with torch.inference_mode():
        np.testing.assert_allclose(head(states)[0].numpy(), expected, atol=1e-5)


def test_the_bilstm_hears_what_comes_after_as_well_as_what_came_before() -> None:
    torch.manual_seed(0)
    head, states = BiLstmHead(16, 4, 8, layers=2), drawn(1, 7, 16)
    with torch.inference_mode():
        before = head(states)
        for frame in (0, 6):
            changed = states.clone()
            changed[:, frame] += 1.0
            assert not torch.allclose(head(changed)[:, 3], before[:, 3])


def test_what_stands_for_nothing_has_no_weight_and_changes_nothing() -> None:
    states = drawn(2, 3, 4)
    part = IdentityProjection()
    assert part(states) is states
    assert not list(part.parameters())
