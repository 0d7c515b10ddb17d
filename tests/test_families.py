"""Every family in the table: drop layers, save, reload, export, quantize."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import FAMILY_NAMES, RATE, TONES, make_model, tiny_config, tone
from transformers import AutoModel, AutoModelForAudioClassification

from edgeprune import checkpoints, models
from edgeprune.export_onnx import onnx_runner, to_onnx
from edgeprune.families import FAMILIES, family_of, keep_layers, layers_of
from edgeprune.quantize import to_int8
from edgeprune_device.errors import EdgepruneError


def windows(count: int = 4) -> torch.Tensor:
    return torch.from_numpy(np.stack([tone(500 * (i + 1), 1.0, i) for i in range(count)]))


def test_the_table_holds_the_families_that_the_readme_promises() -> None:
    assert set(FAMILY_NAMES) == set(FAMILIES)


def test_a_pruned_model_saves_reloads_and_exports_as_it_was(
    family_folder: Path, tmp_path: Path
) -> None:
    model = models.load_classifier(str(family_folder))
    keep_layers(model, [0, 2])
    with torch.inference_mode():
        pruned = models.logits_of(model, windows())
    models.save(model, tmp_path / "pruned")
    again = models.load_classifier(str(tmp_path / "pruned"))
    assert len(layers_of(again)) == 2
    with torch.inference_mode():
        torch.testing.assert_close(models.logits_of(again, windows()), pruned, rtol=0, atol=0)
        expected = torch.softmax(pruned, dim=-1).numpy()
    run = onnx_runner(to_onnx(again, RATE, 17))
    for sample, scores in zip(windows().numpy(), expected, strict=True):
        np.testing.assert_allclose(run(sample[None])[0], scores, rtol=0, atol=1e-4)


def test_a_pruned_model_computes_what_its_kept_blocks_compute(family_folder: Path) -> None:
    """An oracle of its own: the full model with the other blocks replaced by the identity."""
    pruned, full = (models.load_classifier(str(family_folder)) for _ in range(2))
    keep_layers(pruned, [0, 1])
    skipped = layers_of(full)[2]

    def pass_through(_module: object, inputs: tuple[torch.Tensor, ...], out: object) -> object:
        return inputs[0] if isinstance(out, torch.Tensor) else (inputs[0], *out[1:])  # type: ignore[index]

    skipped.register_forward_hook(pass_through)
    with torch.inference_mode():
        torch.testing.assert_close(
            models.logits_of(pruned, windows()), models.logits_of(full, windows()),
            rtol=0, atol=1e-6,
        )  # fmt: skip


def test_a_pruned_folder_is_read_by_transformers_own_auto_class(
    family_folder: Path, tmp_path: Path
) -> None:
    model = models.load_classifier(str(family_folder))
    keep_layers(model, [0])
    models.save(model, tmp_path / "one")
    again = AutoModelForAudioClassification.from_pretrained(tmp_path / "one")
    assert again.config.num_hidden_layers == 1
    assert tuple(again.config.id2label.values()) == tuple(TONES)


def test_int8_keeps_the_convolutions_and_the_front_end_in_float(family_folder: Path) -> None:
    import onnx

    model = models.load_classifier(str(family_folder))
    data = to_onnx(model, RATE, 17)
    scopes = family_of(model.config.model_type).float_scopes
    graph = onnx.load_from_string(to_int8(data, scopes)).graph
    kinds = [node.op_type for node in graph.node]
    assert "ConvInteger" not in kinds
    assert "MatMulInteger" in kinds or "DynamicQuantizeMatMul" in kinds
    integer = [node.name for node in graph.node if "Integer" in node.op_type]
    assert not [name for name in integer if any(f"/{scope}/" in name for scope in scopes)]
    onnxruntime.InferenceSession(to_int8(data, scopes), providers=["CPUExecutionProvider"])


def test_a_model_without_a_head_gets_one_for_the_labels(tmp_path: Path) -> None:
    for family in FAMILY_NAMES:
        folder = make_model(tmp_path / family, family)
        assert checkpoints.own_labels(str(folder)) == ()
        model = models.load_classifier(str(folder), ("a", "b", "c", "d"))
        assert models.logits_of(model, windows(2)).shape == (2, 4)
        backbone = AutoModel.from_pretrained(folder).state_dict()
        loaded = model.base_model.state_dict()
        assert set(backbone) - set(loaded) <= {"masked_spec_embed"}  # of masked training alone
        assert all(
            torch.equal(loaded[name], backbone[name]) for name in set(loaded) & set(backbone)
        )


@pytest.mark.parametrize("keep", [[], [1, 0], [0, 0], [0, 3], [-1, 0]])
def test_layers_that_are_not_there_cannot_be_kept(family_folder: Path, keep: list[int]) -> None:
    with pytest.raises(EdgepruneError, match="cannot be kept"):
        keep_layers(models.load_classifier(str(family_folder)), keep)


def test_wavlm_keeps_the_block_that_owns_the_position_bias(tmp_path: Path) -> None:
    model = models.load_classifier(str(make_model(tmp_path / "m", "wavlm", tuple(TONES))))
    with pytest.raises(EdgepruneError, match="Layer 0 of a wavlm model cannot be dropped"):
        keep_layers(model, [1, 2])


def test_a_weighted_sum_over_layers_loses_the_weights_of_the_layers_that_go(tmp_path: Path) -> None:
    model = models.load_classifier(str(make_model(tmp_path / "m", "hubert", tuple(TONES))))
    model.config.use_weighted_layer_sum = True
    model.layer_weights = torch.nn.Parameter(torch.arange(4.0))
    keep_layers(model, [0, 2])
    assert model.layer_weights.tolist() == [0.0, 1.0, 3.0]
    models.save(model, tmp_path / "pruned")
    again = models.load_classifier(str(tmp_path / "pruned"))
    with torch.inference_mode():
        torch.testing.assert_close(
            models.logits_of(again, windows()), models.logits_of(model, windows())
        )


def test_an_unknown_family_is_named_with_the_known_ones() -> None:
    with pytest.raises(EdgepruneError, match="model type 'bert'") as error:
        family_of("bert")
    assert all(name in error.value.hint for name in FAMILY_NAMES)


@pytest.mark.parametrize("held", [{"model.safetensors"}, {"model.safetensors.index.json"}, set()])
def test_a_hub_id_is_read_from_its_own_safetensors_or_not_at_all(
    held: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hub(_: str, name: str, **_options: object) -> str | None:
        return name if name in held else None

    monkeypatch.setattr("transformers.utils.cached_file", hub)
    monkeypatch.setattr(
        "transformers.AutoConfig.from_pretrained", lambda *_, **__: tiny_config("hubert")
    )
    if held:
        assert checkpoints.read_config("someone/model").model_type == "hubert"
    else:
        with pytest.raises(EdgepruneError, match="no safetensors on the hub, only a pickle"):
            checkpoints.read_config("someone/model")
