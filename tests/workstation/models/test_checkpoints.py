"""What a model folder says of itself, before any weight is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_heads import LETTERS, TAGS, load_with_head
from tiny_models import FAMILY_NAMES, make_model, tiny_config
from tiny_recordings import TONES
from transformers import Wav2Vec2FeatureExtractor

from edgeprune.models import checkpoints, loading
from edgeprune.models.checkpoints import check_task, read_checkpoint, read_config
from edgeprune.models.families import FAMILIES, layers_of
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.ctc import BLANK_NAME

LABELS = tuple(TONES)


def test_a_checkpoints_vocabulary_is_that_of_its_vocab_json(backbone: Path, tmp_path: Path) -> None:
    """As Hugging Face's CTC checkpoints have it: the config names no labels, vocab.json does."""
    model = load_with_head(backbone, "ctc", "own", LETTERS)
    model.config.id2label = {i: f"LABEL_{i}" for i in range(len(LETTERS))}
    model.config.label2id = {}
    model.save_pretrained(tmp_path / "m")
    assert read_checkpoint(str(tmp_path / "m")).labels("ctc") == ()
    (tmp_path / "m" / "vocab.json").write_text('{"<pad>": 0, "a": 1, "b": 2, "|": 3}', "utf-8")
    assert read_checkpoint(str(tmp_path / "m")).labels("ctc") == LETTERS
    found, labels, own = loading.load_for(str(tmp_path / "m"), ("<pad>", "b"), task="ctc")
    assert own
    assert labels == loading.labels_of(found) == LETTERS
    for wrong in ("{", "[1]", '{"<pad>": "no number"}'):
        (tmp_path / "m" / "vocab.json").write_text(wrong, "utf-8")
        with pytest.raises(EdgepruneError, match=r"vocab\.json is not"):
            read_checkpoint(str(tmp_path / "m")).labels("ctc")


def test_a_family_without_frames_is_refused_for_transcripts(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "kwt", "kwt", TAGS)
    with pytest.raises(EdgepruneError, match="'kwt' have no frame-level output"):
        check_task(read_config(str(folder)), "ctc")
    with pytest.raises(EdgepruneError, match=r"teach\.head = 'bilstm' does not fit a Kwt"):
        loading.load_model(str(folder), TAGS, head="bilstm")


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


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_checkpoint_tells_what_its_model_is_without_a_weight_being_loaded(
    family: str, tmp_path: Path
) -> None:
    folder = make_model(tmp_path / "m", family, LABELS)
    found = read_checkpoint(str(folder))
    assert found.family is FAMILIES[family]
    assert (found.source, found.task, found.labels()) == (str(folder), "classes", LABELS)
    assert found.known_labels("tags") == ()
    model = loading.load_model(str(folder))
    assert found.depth == len(layers_of(model))
    assert found.sample_rate == loading.sample_rate_of(model)
    assert set(found.fixed_layers) <= set(range(found.depth))
    if found.window_samples:
        loading.logits_of(model, torch.zeros(1, found.window_samples))


def test_the_blank_of_a_recogniser_is_known_under_our_name(tmp_path: Path, backbone: Path) -> None:
    model = load_with_head(backbone, "ctc", "own", LETTERS)
    model.config.id2label = {0: "[PAD]", 1: "a", 2: "b", 3: "|"}
    loading.save(model, tmp_path / "m")
    found = read_checkpoint(str(tmp_path / "m"))
    assert found.labels("ctc") == ("[PAD]", "a", "b", "|")
    assert found.known_labels("ctc") == (BLANK_NAME, "a", "b", "|")
    assert found.labels() == (), "it is no classifier"


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda m: (m / "config.json").unlink(), "has no config.json"),
    "config is no json": (lambda m: (m / "config.json").write_text("{"), "is not a JSON object"),
    "config is a list": (lambda m: (m / "config.json").write_text("[]"), "is not a JSON object"),
    "no weights": (lambda m: (m / "model.safetensors").unlink(), "contains no weights"),
    "a pickle": (lambda m: (m / "model.safetensors").rename(m / "pytorch_model.bin"),
                 "contains only pytorch_model.bin, a pickle that could run code"),
    "a torch file": (lambda m: (m / "model.safetensors").rename(m / "model.pth"),
                     "contains only model.pth, a pickle"),
    "cut off": (lambda m: (m / "model.safetensors").write_bytes(
        (m / "model.safetensors").read_bytes()[:-9]), "is damaged or not a safetensors"),
    "a pointer": (lambda m: (m / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\n"), "is damaged or not a safetensors"),
    "another family": (lambda m: (m / "config.json").write_text('{"model_type": "bert"}'),
                       "Model type 'bert' is not supported"),
}  # fmt: skip


@pytest.mark.parametrize("how", SPOILT)
def test_a_folder_that_is_no_model_is_refused_before_it_is_opened(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_model(tmp_path / "m", "hubert", LABELS)
    spoil, sentence = SPOILT[how]
    spoil(folder)
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", None)
    with pytest.raises(EdgepruneError, match=sentence) as error:
        read_config(str(folder))
    assert error.value.hint or "JSON" in sentence
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", ["./nothing", "/no/such/folder", "~/models", "a/b/c"])
def test_a_path_that_is_not_there_is_no_hub_id(source: str) -> None:
    with pytest.raises(EdgepruneError, match="There is no model folder"):
        read_config(source)


def test_a_hub_id_that_cannot_be_reached_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        EdgepruneError, match=r"The model nobody/nothing cannot be read: \S"
    ) as error:
        read_config("nobody/nothing")
    assert "\n" not in str(error.value)
    assert "needs network access the first time" in error.value.hint


@pytest.mark.parametrize(
    ("stated", "asked", "scaled"),
    [({"do_normalize": False}, None, False), ({"do_normalize": True}, None, True),
     (None, None, True), ({"do_normalize": True}, False, False)],
    ids=["extractor says no", "extractor says yes", "nothing said", "our own config says no"],
)  # fmt: skip
def test_whether_samples_are_scaled_is_the_extractors_word_unless_we_saved_it(
    stated: dict[str, bool] | None, asked: bool | None, scaled: bool, tmp_path: Path
) -> None:
    folder = make_model(tmp_path / "m", "hubert", LABELS)
    if stated is not None:
        Wav2Vec2FeatureExtractor(**stated).save_pretrained(folder)
    config = read_config(str(folder))
    if asked is not None:
        config.edgeprune_normalize = asked
    assert checkpoints.normalizes(str(folder), config, FAMILIES["hubert"]) is scaled
    assert not checkpoints.normalizes(str(folder), config, FAMILIES["whisper"])


def test_an_errors_first_line_is_never_empty() -> None:
    assert checkpoints.first_line(ValueError("one\ntwo")) == "one"
    assert checkpoints.first_line(KeyError()) == "KeyError"
    assert checkpoints.first_line(OSError(" \n")) == "OSError"
