"""The Keyword Transformer port, checked against the published TFLite file on real clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoModelForAudioClassification

from edgeprune.models import checkpoints, loading
from edgeprune.nn.kwt import KwtForAudioClassification
from edgeprune_calibration.dataset import read_data
from edgeprune_device.audio.sound_files import pad_to_window, read_clip

CLIPS = 60


def test_logits_equal_the_tflite_files_on_real_clips(kwt_folder: Path, arabic_csv: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(kwt_folder / "kwt1.tflite"))
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]["index"]
    interpreter.allocate_tensors()
    model = loading.load_model(str(kwt_folder))
    clips = read_data(arabic_csv).clips
    worst = 0.0
    for clip in clips[:: len(clips) // CLIPS][:CLIPS]:
        window, _ = pad_to_window(read_clip(clip.path, 16000)[:16000], 16000)
        interpreter.set_tensor(source, window[None])
        interpreter.invoke()
        with torch.inference_mode():
            own = loading.logits_of(model, torch.from_numpy(window)[None]).numpy()
        worst = max(worst, float(np.abs(own - interpreter.get_tensor(target)).max()))
    assert worst < 1e-4


def test_it_is_registered_with_the_auto_classes(kwt_folder: Path, tmp_path: Path) -> None:
    model = AutoModelForAudioClassification.from_pretrained(kwt_folder)
    assert isinstance(model, KwtForAudioClassification)
    model.save_pretrained(tmp_path)
    again = AutoModelForAudioClassification.from_pretrained(tmp_path)
    state = again.state_dict()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert AutoConfig.from_pretrained(tmp_path).model_type == "kwt"
    assert AutoModel.from_pretrained(tmp_path).config.num_hidden_layers == 12


def test_it_knows_its_own_labels_and_is_not_taught_them_again(kwt_folder: Path) -> None:
    labels = checkpoints.read_checkpoint(str(kwt_folder)).labels()
    assert {"yes", "no", "left", "right"} <= set(labels)
