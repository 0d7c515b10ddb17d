"""Export of a model to ONNX: raw samples of one window in, scores out.

Normalization, spectrogram and softmax (for tags: sigmoid) are inside the graph, which is rewritten
for the runtime (``model_rewrites``). The weights are inside the file (a bundle has no external
data). The file's outputs are compared with torch before it is accepted.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeprune.data.tasks import task_of
from edgeprune.data.windows import Windows
from edgeprune.export.model_rewrites import shape
from edgeprune.export.onnx_graph import open_file
from edgeprune.models import loading
from edgeprune.models.checkpoints import task_in
from edgeprune.nn.split_point import Seam, seam_of
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError

MAX_DIFFERENCE = 1e-4  # largest allowed difference of a score between the file and torch
MOST_BYTES = 2**31 - 1  # limit of protobuf
INPUT, OUTPUT = "samples", "scores"
FRAMES = "frames"
"""Name of the tensor at the end of a graph's front end (``nn.split_point``), if it has one."""


class Scorer(nn.Module):
    """A model as the recorder runs it: samples (1, window) to scores (1, labels).

    For transcripts, the scores are the posteriors of every frame: (1, frames, labels).
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.activate = task_of(task_in(model.config)).activate

    def forward(self, samples: Tensor) -> Tensor:
        """Return scores from 0 to 1; except for tags, they sum to one."""
        return self.activate(loading.logits_of(self.model, samples))


class _Named(nn.Module):
    """A scorer that also returns the output of its seam, which thereby gets a name in the graph."""

    def __init__(self, scorer: Scorer, seam: Seam) -> None:
        super().__init__()
        self.model, self.scorer = scorer.model, [scorer]  # in a list, so that names do not change
        seam.register_forward_hook(self.see)

    def see(self, _: nn.Module, __: Any, frames: Tensor) -> None:
        self.frames = frames

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores and frames."""
        scores = self.scorer[0].activate(loading.logits_of(self.model, samples))
        return scores, self.frames


def to_onnx(classifier: Any, window_samples: int, opset: int) -> bytes:
    """Return the ONNX file of a classifier; the model is not changed.

    Raises
    ------
    EdgepruneError
        The file would exceed protobuf's limit of 2 GB.

    """
    scorer = Scorer(shape(classifier, window_samples, "onnx"))
    seam = seam_of(scorer)
    if seam is None:
        return traced(scorer, window_samples, [OUTPUT], opset)
    return traced(_Named(scorer, seam), window_samples, [OUTPUT, FRAMES], opset)


def traced(module: nn.Module, window_samples: int, outputs: Sequence[str], opset: int) -> bytes:
    """Return the ONNX file of a module that takes samples (1, window_samples).

    Parameters
    ----------
    module : nn.Module
        Module to export.
    window_samples : int
        Samples per window.
    outputs : sequence of str
        Names of what the module returns; only the first becomes an output of the file.
    opset : int
        ONNX operator set.

    Raises
    ------
    EdgepruneError
        The file would exceed protobuf's limit of 2 GB.

    """
    buffer: Any = io.BytesIO()  # torch annotates it as a path
    with warnings.catch_warnings():  # the tracer warns of every shape that is fixed on purpose
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), (torch.randn(1, window_samples) * 0.1,), buffer,
            input_names=[INPUT], output_names=list(outputs), opset_version=opset, dynamo=False,
        )  # fmt: skip
    data: bytes = buffer.getvalue()
    if len(data) > MOST_BYTES:
        raise EdgepruneError(
            f"The ONNX file would have {len(data) / 1e9:.1f} GB (allowed: at most 2 GB)."
        )
    graph = onnx.load_from_string(data)
    del graph.graph.output[1:]
    without_slow_fusion(graph)
    onnx.checker.check_model(graph)
    shaped_data: bytes = graph.SerializeToString()
    return shaped_data


def without_slow_fusion(model: onnx.ModelProto) -> None:
    """Replace Add before a layer norm by Sum, in place.

    ONNX Runtime 1.31 fuses Add and LayerNormalization to SkipLayerNormalization, which on CPUs
    takes eight times as long as the two (49 frames of 768: 190 us against 23); it does not fuse
    Sum.
    """
    normed = {node.input[0] for node in model.graph.node if node.op_type == "LayerNormalization"}
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if (node.op_type == "Add" and node.output[0] in normed
                and not constants & set(node.input)):  # fmt: skip
            node.op_type = "Sum"


def largest_difference(run: Any, scorer: Scorer, windows: Windows, count: int = 16) -> float:
    """Return the largest difference of a score between a model file and torch.

    Parameters
    ----------
    run : callable
        From samples (1, window) to scores (1, ...), both float32.
    scorer : Scorer
        The model in torch.
    windows : Windows
        Windows to compare on; ``count`` of them are used, evenly spaced.
    count : int
        Number of windows.

    Raises
    ------
    EdgepruneError
        The difference exceeds 1e-4 or is NaN (status 1).

    """
    index = np.linspace(
        0, len(windows.samples) - 1, num=min(count, len(windows.samples)), dtype=int
    )
    differences = []
    with torch.inference_mode():
        for sample in np.array(windows.samples[index]):
            expected = scorer(torch.from_numpy(sample)[None]).numpy()
            differences.append(np.abs(run(sample[None]) - expected).max())
    worst = float(np.max(differences))  # NaN if one is
    if not worst <= MAX_DIFFERENCE:
        raise EdgepruneError(
            f"The exported graph differs from torch by {worst:.1e} (allowed: {MAX_DIFFERENCE:.0e}).",
            "Please report this with the model's config.json.", FAILED_CHECK,
        )  # fmt: skip
    return worst


def onnx_runner(data: bytes) -> Any:
    """Return a function from samples (1, window) to scores for an ONNX file, on one thread."""
    session = open_file(data)

    def run(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(session.run([OUTPUT], {INPUT: samples})[0], dtype=np.float32)

    return run
