"""Light front ends: as many frames as the encoder they stand for, of what they should hear."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest
import torch

from edgeprune.nn.light_encoders import LightFeatures, LightFrontend, NarrowFeatures
from edgeprune.nn.split_point import seam_of

KERNELS, STRIDES = (10, 8, 4), (5, 4, 2)
REACH = 10 + 7 * 5 + 3 * 20  # samples under one frame: each kernel, in the strides before it
STEP = prod(STRIDES)
RATE = 16000


def noise(samples: int, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(batch, samples, generator=generator)


def light(front_end: str = "log-mel", **options: int) -> Any:
    torch.manual_seed(0)
    small = {"width": 6, "layers": 1, "kernel": 3, "stem_channels": 2, "mels": 8} | options
    return LightFeatures(front_end, RATE, REACH, STEP, 5, **small).eval()


def narrow() -> Any:
    torch.manual_seed(0)
    return NarrowFeatures(KERNELS, STRIDES, 3, 5).eval()


@pytest.mark.parametrize("samples", [REACH, REACH + STEP - 1, REACH + STEP, 4000])
@pytest.mark.parametrize("kind", ["log-mel", "mfcc", "narrow"])
def test_there_are_as_many_frames_as_the_encoder_would_make(kind: str, samples: int) -> None:
    made = narrow() if kind == "narrow" else light(kind)
    with torch.inference_mode():
        found = made(noise(samples, 2))
    assert found.shape == (2, 5, (samples - REACH) // STEP + 1)


def test_a_narrow_frame_hears_as_far_as_the_encoders() -> None:
    samples = noise(4000).requires_grad_()
    (grad,) = torch.autograd.grad(narrow()(samples)[0, :, 7].sum(), samples)
    reached = grad[0].nonzero().flatten()
    assert (int(reached[0]), int(reached[-1])) == (7 * STEP, 7 * STEP + REACH - 1)


def test_a_narrow_encoder_is_narrow_inside_and_as_wide_as_the_other_at_its_end() -> None:
    assert [conv.out_channels for conv in narrow().convs] == [3, 3, 5]
    assert [conv.kernel_size[0] for conv in narrow().convs] == list(KERNELS)


def test_without_blocks_and_stem_a_light_frame_hears_its_own_samples_alone() -> None:
    samples = noise(4000).requires_grad_()
    made = light(layers=0, stem_channels=0)
    (grad,) = torch.autograd.grad(made(samples)[0, :, 7].sum(), samples)
    reached = grad[0].nonzero().flatten()
    assert int(reached[0]) >= 7 * STEP
    assert int(reached[-1]) < 7 * STEP + REACH


@pytest.mark.parametrize("kind", ["log-mel", "mfcc"])
def test_a_tone_twice_as_loud_moves_every_band_alike_until_it_is_normed(kind: str) -> None:
    """The spectra are logarithms: of a scaled sound they differ by a constant (cepstra: the first)."""
    made = light(kind)
    with torch.inference_mode():
        seen: list[torch.Tensor] = [made.stem.spectrum(noise(4000) * level) for level in (1.0, 4.0)]
    moved = (seen[1] - seen[0]).flatten(0, 1)
    spread = moved[:, 1:].abs() if kind == "mfcc" else (moved - moved.mean()).abs()
    assert float(spread.max()) < 0.05 * float(moved.abs().max())


def test_every_kind_has_one_seam_at_its_step() -> None:
    for made in (light(), light("mfcc"), narrow()):
        seam = seam_of(made)
        assert seam is not None
        assert seam.step == STEP


def test_in_place_of_kwts_front_end_there_are_frames_of_cepstra() -> None:
    torch.manual_seed(0)
    made = LightFrontend(RATE, 200, 80, cepstra=6, mels=10).eval()
    with torch.inference_mode():
        found = made(noise(RATE, 3))
        bands = made.norm(made.spectrum(noise(RATE, 3)).transpose(1, 2)).transpose(1, 2)
        expected = bands @ made.out.weight.T + made.out.bias
    assert found.shape == (3, (RATE - 200) // 80 + 1, 6)
    torch.testing.assert_close(found, expected)
