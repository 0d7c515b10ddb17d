"""Run a bundle on a sound file: labels and scores, window by window, as the recorder sees them.

    python examples/run_a_bundle.py BUNDLE SOUND [THRESHOLD]

Needs the bare install only (numpy, a runtime, soundfile): no torch.
"""

import sys

import edgeprune_device


def main(bundle: str, sound: str, threshold: str = "0.5") -> None:
    """Print every window whose best label reaches the threshold."""
    model = edgeprune_device.load_bundle(bundle)
    print(f"{model.name}: {', '.join(model.labels)}")
    for window in model.predict(sound):
        if window.score >= float(threshold):
            print(f"{window.start_seconds:8.2f} s  {window.score:.2f}  {window.label}")


if __name__ == "__main__":
    main(*sys.argv[1:])
