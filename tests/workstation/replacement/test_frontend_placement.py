"""Light front ends put in place of a model's own: the same frames, of the same width."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from slow_cases import some_of
from tiny_models import FAMILY_NAMES, make_model, tiny_config
from tiny_recordings import RATE, TONES

from edgeprune.core.settings import FrontEnd
from edgeprune.export.onnx import onnx_runner, to_onnx
from edgeprune.models import loading
from edgeprune.models.families import family_of
from edgeprune.quantization.weight_only import store_int8
from edgeprune.replacement.frontend import features_of
from edgeprune.replacement.frontend_placement import (
    check_front_end,
    framing_of,
    insert_light_frontend,
    interpolate_frames,
    path_of,
)
from edgeprune.replacement.mimic_placement import drop_positions, put_mimic
from edgeprune_device.errors import EdgepruneError

QUICK = FrontEnd(width=8, layers=1, mels=12, stem_channels=2, epochs=2, whole_epochs=1,
                 label_epochs=1)  # fmt: skip


HEAR_SAMPLES = [name for name in FAMILY_NAMES if family_of(name).frozen or name == "kwt"]


TAKES = [(family, kind) for family in HEAR_SAMPLES for kind in ("log-mel", "mfcc", "narrow")
         if family != "kwt" or kind == "log-mel"]  # fmt: skip


def lightened(folder: Path, family: str, settings: FrontEnd) -> tuple[Any, torch.Tensor]:
    model = loading.load_model(str(make_model(folder, family, tuple(TONES))))
    usual = features_of(model, path_of(model.config), torch.zeros(1, RATE))
    torch.manual_seed(1)
    insert_light_frontend(model, usual, RATE, settings)
    return model.eval(), usual


@pytest.mark.parametrize(
    ("family", "kind"),
    some_of(
        TAKES, ("wav2vec2", "log-mel"), ("hubert", "mfcc"), ("sew", "narrow"), ("kwt", "log-mel")
    ),
)
def test_every_family_that_hears_samples_takes_each_kind(
    family: str, kind: str, sound: torch.Tensor, tmp_path: Path
) -> None:
    model, usual = lightened(tmp_path / "m", family, replace(QUICK, kind=kind))
    if family != "kwt":
        assert features_of(model, path_of(model.config), sound[:1]).shape == usual.shape
    with torch.inference_mode():
        expected = loading.logits_of(model, sound)
    loading.save(model, tmp_path / "light")
    again = loading.load_model(str(tmp_path / "light"))
    with torch.inference_mode():
        torch.testing.assert_close(loading.logits_of(again, sound), expected, rtol=0, atol=0)
    if kind == "log-mel":
        data = to_onnx(again, RATE, 18)
        stored = store_int8(data, family_of(family).float_scopes)
        scores = expected.softmax(dim=-1).numpy()
        np.testing.assert_allclose(onnx_runner(data)(sound[:1].numpy())[0], scores[0], atol=1e-4)
        np.testing.assert_allclose(onnx_runner(stored)(sound[:1].numpy())[0], scores[0], atol=0.1)


@pytest.mark.parametrize("family", [name for name in FAMILY_NAMES if name not in HEAR_SAMPLES])
def test_a_family_that_takes_spectrograms_has_none_to_replace(family: str, tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match="take spectrograms: there is no waveform encoder"):
        path_of(tiny_config(family))


def test_a_frame_of_the_encoder_is_as_long_as_what_it_hears() -> None:
    config = tiny_config("wav2vec2")
    assert framing_of(config) == (325, 320)
    config.conv_kernel, config.conv_stride = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
    assert framing_of(config) == (400, 320)


def test_half_the_frames_of_a_kwt_are_every_other_one(tmp_path: Path) -> None:
    model, usual = lightened(tmp_path / "m", "kwt", QUICK)
    whole = loading.load_model(str(tmp_path / "m"))
    assert usual.shape[1] == 98
    assert model.config.num_tokens == 50
    torch.testing.assert_close(model.pos_embed[:, 1:], whole.pos_embed[:, 1::2])
    assert torch.equal(model.pos_embed[:, 0], whole.pos_embed[:, 0])


def test_frames_between_others_are_their_weighted_mean() -> None:
    frames = torch.tensor([0.0, 1.0, 4.0])[None, :, None]
    assert interpolate_frames(frames, 3, 0.5).flatten().tolist() == [0.0, 0.5, 1.0]
    assert interpolate_frames(frames, 2, 2.0).flatten().tolist() == [0.0, 4.0]


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"kind": "narrow"}, "has no waveform encoder to narrow"),
     ({"kind": "mfcc"}, "cepstra by a linear layer"),
     ({"hop_ms": 5.0}, "frontend.hop_ms = 5 is shorter than the model's 10 ms"),
     ({"mels": 300}, "The front end cannot be built: mel band 2 of 300 contains no")],
)  # fmt: skip
def test_what_cannot_take_a_kwts_front_end_is_refused(
    changes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    with pytest.raises(EdgepruneError, match=why):
        lightened(tmp_path / "m", "kwt", replace(QUICK, **changes))
    with pytest.raises(EdgepruneError, match=why):
        check_front_end(tiny_config("kwt"), replace(QUICK, **changes))


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_front_end_is_refused_by_the_config_alone(family: str) -> None:
    if family not in HEAR_SAMPLES:
        with pytest.raises(EdgepruneError, match="take spectrograms: there is no waveform encoder"):
            check_front_end(tiny_config(family), QUICK)
        return
    check_front_end(tiny_config(family), QUICK)
    if family != "kwt":
        with pytest.raises(
            EdgepruneError, match=r"kernel = 4 is out of range \(allowed: odd numbers\)"
        ):
            check_front_end(tiny_config(family), replace(QUICK, kernel=4))


def test_a_mimic_and_a_light_front_end_go_together(sound: torch.Tensor, tmp_path: Path) -> None:
    model, _ = lightened(tmp_path / "m", "wav2vec2", QUICK)
    put_mimic(model, 0, 3, sound[:1], kind="frame", hidden=8)
    drop_positions(model)
    loading.save(model.eval(), tmp_path / "both")
    again = loading.load_model(str(tmp_path / "both"))
    with torch.inference_mode():
        torch.testing.assert_close(
            loading.logits_of(again, sound), loading.logits_of(model, sound), rtol=0, atol=0
        )
