"""Export a model to ONNX: raw samples of one window in, scores out.

Normalisation, spectrogram and softmax (of tags: sigmoid) are inside the graph, which has the shape
that the runtime is fast at (``shaping``), the weights are inside the file (a bundle holds no
external data), and the file is compared with torch before it is accepted.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeprune import models
from edgeprune.audio import Windows
from edgeprune.checkpoints import task_in
from edgeprune.onnx_graphs import open_file
from edgeprune.shaping import shape
from edgeprune.tasks import task_of
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError

AGREEMENT = 1e-4  # largest difference of a score between the file and torch
MOST_BYTES = 2**31 - 1  # protobuf's limit
INPUT, OUTPUT = "samples", "scores"


class Scorer(nn.Module):
    """A model as the recorder sees it: samples (1, window) to scores (1, labels).

    Of transcripts, the scores are every frame's posteriors: (1, frames, labels).
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.activate = task_of(task_in(model.config)).activate

    def forward(self, samples: Tensor) -> Tensor:
        """Scores from 0 to 1; without tags, they sum to one."""
        return self.activate(models.logits_of(self.model, samples))


def to_onnx(classifier: Any, window_samples: int, opset: int) -> bytes:
    """Return the ONNX file of a classifier; the model itself stays as it is.

    Raises
    ------
    EdgepruneError
        The file would be over protobuf's 2 GB.

    """
    shaped = shape(classifier, window_samples, "onnx")
    buffer: Any = io.BytesIO()  # torch types it as a path
    with warnings.catch_warnings():  # the tracer warns of every shape that is fixed on purpose
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Scorer(shaped).eval(), (torch.randn(1, window_samples) * 0.1,), buffer,
            input_names=[INPUT], output_names=[OUTPUT], opset_version=opset, dynamo=False,
        )  # fmt: skip
    data: bytes = buffer.getvalue()
    if len(data) > MOST_BYTES:
        raise EdgepruneError(
            f"The ONNX file would have {len(data) / 1e9:.1f} GB; 2 GB is the most."
        )
    graph = onnx.load_from_string(data)
    without_slow_fusion(graph)
    onnx.checker.check_model(graph)
    shaped_data: bytes = graph.SerializeToString()
    return shaped_data


def without_slow_fusion(model: onnx.ModelProto) -> None:
    """Write residual sums in front of a layer norm as Sum, in place.

    ONNX Runtime 1.31 fuses Add and LayerNormalization to SkipLayerNormalization, which on CPUs takes
    eight times as long as the two (49 frames of 768: 190 us against 23); Sum it leaves alone.
    """
    normed = {node.input[0] for node in model.graph.node if node.op_type == "LayerNormalization"}
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if (node.op_type == "Add" and node.output[0] in normed
                and not constants & set(node.input)):  # fmt: skip
            node.op_type = "Sum"


def agreement(run: Any, scorer: Scorer, windows: Windows, count: int = 16) -> float:
    """Return the largest difference of a score between a file that runs and torch.

    Parameters
    ----------
    run : callable
        From samples (1, window) to scores (1, ...), both float32.
    scorer : Scorer
    windows : Windows
        Real ones, of which ``count`` are taken, evenly spread.

    Raises
    ------
    EdgepruneError
        It is over 1e-4, or not a number: the file computes something else (status 1).

    """
    index = np.linspace(
        0, len(windows.samples) - 1, num=min(count, len(windows.samples)), dtype=int
    )
    differences = []
    with torch.inference_mode():
        for sample in np.array(windows.samples[index]):
            expected = scorer(torch.from_numpy(sample)[None]).numpy()
            differences.append(np.abs(run(sample[None]) - expected).max())
    worst = float(np.max(differences))  # not a number if one is
    if not worst <= AGREEMENT:
        raise EdgepruneError(
            f"The exported graph differs from torch by {worst:.1e} (allowed: {AGREEMENT:.0e}).",
            "Please report this with the model's config.json.", FAILED_CHECK,
        )  # fmt: skip
    return worst


def onnx_runner(data: bytes) -> Any:
    """Return a function from samples (1, window) to scores (1, ...) for an ONNX file, on one thread."""
    session = open_file(data)

    def run(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(session.run([OUTPUT], {INPUT: samples})[0], dtype=np.float32)

    return run
