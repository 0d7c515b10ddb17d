"""The command ``demo``: the whole workflow on synthetic recordings and a small included model.

Offline, in a few minutes: songs of invented bird species are synthesized, the model in
``demo_model/`` (a wav2vec 2.0 of 0.4 million parameters from ``benchmarks/demo_model.py``) is
fine-tuned on them, compressed, verified, benchmarked and run on a stream.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from edgeprune.core.console import Terminal, duration
from edgeprune.core.files import write_json
from edgeprune.core.recipe import build_settings
from edgeprune.data.synthetic_recordings import Parameters, make_recordings, make_stream
from edgeprune.deployment.verify import verify
from edgeprune.pipeline.compress import compress
from edgeprune_calibration.event_matching import match, read_detections, read_truth
from edgeprune_device.bench.runner import bench
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.recorder.listen import listen
from edgeprune_device.system.machine import usable_cores

MODEL = Path(__file__).parent / "demo_model"
RECORD = "demo.json"
RECORDINGS = Parameters()
STREAM_MINUTES, SONGS = 4.0, 40
RECIPE: dict[str, Any] = {  # small data and a single seed, to save time
    "seeds": 1,
    "max_drop": 0.02,
    "teach": {"epochs": 8},
    "prune": {"recovery_epochs": 3},
    "distill": {"epochs": 5, "label_epochs": 3},
    "bench": {"seconds": 1.0, "rounds": 3},
}


def demo(out: Path, ui: Terminal) -> dict[str, Any]:
    """Run compress, verify, bench and listen on synthetic data with a small model.

    Parameters
    ----------
    out : Path
        Folder for everything; an interrupted demonstration resumes.
    ui : Terminal
        Progress display.

    Returns
    -------
    dict
        Accuracies, hits and false alarms, paths, and ``text`` to print.

    Raises
    ------
    EdgepruneError
        The folder holds other files.

    """
    _claim(out)
    begun = time.monotonic()
    ui.say("1 of 5  recordings: synthetic bird songs at a distance, in wind and rain")
    labels = make_recordings(out / "recordings", RECORDINGS, ui.track)
    ui.say("2 of 5  compress")
    run = out / "birds"
    made = compress(str(MODEL), labels, run, build_settings(RECIPE), ui=ui)
    bundle, teacher = run / "bundle", run / "seed-0" / "export-teacher" / "bundle"
    ui.say("3 of 5  verify: accuracy of the bundle's file on the test clips")
    verified = verify(bundle, labels, teacher, max_drop=0.02, out=out, track=ui.track)
    ui.say("4 of 5  bench: teacher and bundle side by side")
    threads = tuple(range(1, min(2, usable_cores()) + 1))
    bench((teacher, bundle), out / "bench", threads=threads, seconds=1.0, rounds=3,
          names=("teacher", "bundle"), say=ui.say)  # fmt: skip
    ui.say("5 of 5  listen: a stream with songs of individuals that are in no training clip")
    truth = make_stream(out / "stream.flac", RECORDINGS, STREAM_MINUTES, SONGS)
    stats = listen(bundle, out / "journal" / _stamp(), source="wav", from_wav=out / "stream.flac",
                   say=ui.say)  # fmt: skip
    journal = Path(stats["journal"])
    heard = match(read_detections(journal), read_truth(truth), stats["captured_seconds"])
    seconds = time.monotonic() - begun
    lines = [
        str(made), "", verified["verdict"],
        f"In {STREAM_MINUTES:g} minutes of audio, {heard.hits} of "
        f"{heard.hits + heard.misses} songs were detected, with {heard.false_alarms} false "
        f"alarm{'s' * (heard.false_alarms != 1)}.",
        f"Total time: {duration(seconds)}.", "", "Next, with your own data:",
        "  edgeprune compress facebook/wav2vec2-base-960h my-clips/labels.csv -o runs/mine",
        "  edgeprune listen runs/mine/bundle",
    ]  # fmt: skip
    return {
        "summary": made.report["summary"], "verdict": verified["verdict"], "hits": heard.hits,
        "misses": heard.misses, "false_alarms": heard.false_alarms, "seconds": seconds,
        "report": str(run / "report.html"), "bundle": str(bundle), "text": "\n".join(lines),
    }  # fmt: skip


def _claim(out: Path) -> None:
    """Mark the folder as a demonstration's, or raise."""
    if out.exists() and not (out / RECORD).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise EdgepruneError(
            f"{out} exists and holds no demonstration.", "Choose another folder with -o."
        )
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / RECORD, {"command": "demo"}, indent=None)


def _stamp() -> str:
    """Return a journal name for each run, so that earlier journals are kept."""
    return time.strftime("%Y%m%d-%H%M%S")
