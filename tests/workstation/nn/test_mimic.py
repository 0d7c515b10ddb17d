"""Mimics as modules: each kind is what its sentence says, in the wrapping a family expects."""

from __future__ import annotations

import pytest
import torch

from edgeprune.nn.mimic import KINDS, Mimic, NarrowTransformer, NoPositions

WIDTH, HIDDEN = 8, 4


def states(frames: int = 12, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, frames, WIDTH, generator=torch.Generator().manual_seed(frames))


def made(kind: str, **options: int) -> Mimic:
    torch.manual_seed(0)
    return Mimic(kind, WIDTH, hidden=HIDDEN, heads=2, **options).eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [0, 2])
def test_every_kind_keeps_the_shape_of_the_states(kind: str, tokens: int) -> None:
    given = states()
    found = made(kind, layers=2, class_tokens=tokens)(given)
    assert found.shape == given.shape
    assert torch.equal(found[:, tokens:], given[:, tokens:]) == (kind == "none")


@pytest.mark.parametrize(("outputs", "length"), [(0, None), (1, 1), (2, 2), (3, 3)])
def test_it_returns_as_many_things_as_the_familys_blocks(outputs: int, length: int | None) -> None:
    bias = object()
    found = made("frame", outputs=outputs)(states(), "attention", position_bias=bias)
    if length is None:
        assert isinstance(found, torch.Tensor)
        return
    assert len(found) == length
    assert isinstance(found[0], torch.Tensor)
    if length > 1:
        assert found[1] is bias  # WavLM's blocks hand it on
    assert set(found[2:]) <= {None}


def test_a_frame_mimic_looks_at_one_frame_and_a_convolution_at_its_kernel() -> None:
    given = states(20, 1).requires_grad_()
    for kind, reach in (("frame", {10}), ("conv", set(range(8, 13)))):
        (grad,) = torch.autograd.grad(made(kind, kernel=5)(given)[0, 10].sum(), given)
        assert set(grad[0].abs().sum(dim=1).nonzero().flatten().tolist()) == reach


def test_a_convolution_stays_within_its_row() -> None:
    """Two rows of ten frames, one behind the other: the last of one is no neighbour of the next."""
    given = states(20, 1).requires_grad_()
    mimic = made("conv", kernel=5, rows=2)
    (grad,) = torch.autograd.grad(mimic(given)[0, 9].sum(), given)
    assert set(grad[0].abs().sum(dim=1).nonzero().flatten().tolist()) == {7, 8, 9}
    one_row = made("conv", kernel=5)
    with torch.inference_mode():
        halves = [one_row(given[:, part]) for part in (slice(10), slice(10, 20))]
        torch.testing.assert_close(mimic(given), torch.cat(halves, dim=1))


def test_a_class_token_hears_every_frame_and_itself_by_hand() -> None:
    mimic, given = made("none", class_tokens=1), states()
    with torch.inference_mode():
        found = mimic(given)
        mean = given[:, 1:].mean(dim=1)
        heard = mean @ mimic.gathered.weight.T + mimic.gathered.bias
        own = given[:, 0] @ mimic.carried.weight.T + mimic.carried.bias
    torch.testing.assert_close(found[:, 0], heard + own)


def test_a_narrow_transformer_adds_to_what_came_in() -> None:
    torch.manual_seed(0)
    block, given = NarrowTransformer(WIDTH, HIDDEN, 2).eval(), states()
    with torch.no_grad():
        block.leave.weight.zero_()
        block.leave.bias.fill_(0.5)
        torch.testing.assert_close(block(given), given + 0.5)


def test_no_positions_are_zeros_that_add_to_anything() -> None:
    given = states()
    assert torch.equal(given + NoPositions()(given), given)
    assert NoPositions()(given.double()).dtype == torch.float64
