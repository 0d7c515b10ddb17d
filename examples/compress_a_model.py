"""Compress a model: from an audio transformer and labelled clips to a bundle for a recorder.

    python examples/compress_a_model.py MODEL CLIPS OUT [RECIPE]

MODEL is a folder in Hugging Face's layout or a hub id, CLIPS a folder of class folders or a CSV with
``path`` and ``label``. Interrupt it with Ctrl-C: the same command goes on where it stopped.
"""

import sys

import edgeprune


def main(model: str, clips: str, out: str, recipe: str = "") -> None:
    """Compress, print the before/after table, and say what was gained."""
    settings = edgeprune.load_recipe(recipe, seeds=1)
    result = edgeprune.compress(model, clips, out, settings)
    print(result)
    faster = result.before.p50_ms / result.after.p50_ms
    smaller = result.before.bytes / result.after.bytes
    print(f"{faster:.1f} times as fast, {smaller:.1f} times smaller: {result.bundle}")


if __name__ == "__main__":
    main(*sys.argv[1:])
