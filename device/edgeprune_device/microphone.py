"""The microphone, in a process of its own: ``python -m edgeprune_device.microphone``.

PortAudio may stop calling back, and closing it may hang, without a word; a child that does nothing
but capture can be killed. Its main loop writes packets to standard output: a header (magic, rate,
frames captured so far, frames in this packet, overflows so far), then 16-bit samples of one channel.
Frames that could not be queued are counted, so the reader sees how many are missing. It ends when
its standard input closes; an error is one line of JSON on standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import signal
import struct
import sys
import threading
from typing import Any

from edgeprune_device.errors import FAILED_CHECK, NOT_INSTALLED, EdgepruneError

HEADER = struct.Struct("<4sIQII")
MAGIC = b"EPmc"
QUEUE_BLOCKS = 200
BYTES_PER_SAMPLE = 2


def list_devices() -> list[dict[str, Any]]:
    """Return the inputs: index, name, channels, rate (default, in Hz).

    Raises
    ------
    EdgepruneError
        PortAudio is not installed (status 3).

    """
    return [
        {"index": index, "name": str(device["name"]), "channels": int(device["max_input_channels"]),
         "rate": float(device["default_samplerate"])}
        for index, device in enumerate(_sounddevice().query_devices())
        if device["max_input_channels"] > 0
    ]  # fmt: skip


def choose_device(
    wanted: str | None, devices: list[dict[str, Any]], default: int
) -> dict[str, Any]:
    """Return the one input that is meant; never another in silence.

    Parameters
    ----------
    wanted : str or None
        A number, a name, or a part of one name; None: the system's default, or the only one.
    devices : list of dict
        As ``list_devices``.
    default : int
        Index of the default input; -1 if there is none.

    Raises
    ------
    EdgepruneError
        None or several fit.

    """
    names = "; ".join(f"{d['index']} {d['name']}" for d in devices) or "none"
    if wanted is None:
        fitting = [d for d in devices if d["index"] == default] or devices
    elif wanted.isdecimal():
        fitting = [d for d in devices if d["index"] == int(wanted)]
    else:
        fitting = [d for d in devices if d["name"] == wanted] or [
            d for d in devices if wanted.lower() in d["name"].lower()
        ]
    if len(fitting) == 1:
        return fitting[0]
    asked = f"input {wanted!r}" if wanted is not None else "input"
    if not fitting:
        message = f"There is no {asked}."
    elif wanted is None:
        message = f"None of the {len(fitting)} inputs is the default: choose one with --device."
    else:
        message = f"{len(fitting)} inputs fit {asked}."
    raise EdgepruneError(message, f"Inputs here: {names}.")


def _sounddevice() -> Any:
    try:
        import sounddevice
    except OSError as error:  # the wheel brings no PortAudio on Linux
        raise EdgepruneError(
            f"The sound library PortAudio is missing ({error}).",
            "sudo apt install libportaudio2", NOT_INSTALLED,
        ) from None  # fmt: skip
    return sounddevice


def capture(wanted: str | None, rate: int, block_seconds: float) -> None:
    """Record until standard input closes, writing packets to standard output.

    Raises
    ------
    EdgepruneError
        No such input, or it cannot be opened.

    """
    sound = _sounddevice()
    default = sound.default.device[0]
    device = choose_device(wanted, list_devices(), default if default is not None else -1)
    rate = _possible_rate(sound, device, rate)
    blocks: queue.Queue[tuple[int, bytes]] = queue.Queue(QUEUE_BLOCKS)
    state = {"frames": 0, "overflows": 0}

    def arrived(data: Any, frames: int, _time: Any, status: Any) -> None:
        state["frames"] += frames
        state["overflows"] += bool(status.input_overflow)
        with contextlib.suppress(queue.Full):  # the next packet's total tells how many are missing
            blocks.put_nowait((state["frames"], bytes(data)))

    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with sound.RawInputStream(
            samplerate=rate, blocksize=round(block_seconds * rate), device=device["index"],
            channels=1, dtype="int16", callback=arrived,
        ):  # fmt: skip
            while True:
                total, data = blocks.get()
                count = len(data) // BYTES_PER_SAMPLE
                header = HEADER.pack(MAGIC, rate, total, count, state["overflows"])
                sys.stdout.buffer.write(header + data)
                sys.stdout.buffer.flush()
    except sound.PortAudioError as error:
        raise EdgepruneError(
            f"The input {device['name']} cannot be opened: {error}.",
            "Is another program using it? edgeprune devices lists the inputs.", FAILED_CHECK,
        ) from None  # fmt: skip


def _possible_rate(sound: Any, device: dict[str, Any], rate: int) -> int:
    """Return the wanted rate if the device takes it, otherwise its own; the reader resamples."""
    try:
        sound.check_input_settings(device["index"], channels=1, dtype="int16", samplerate=rate)
    except sound.PortAudioError:
        return int(device["rate"])
    return rate


def _end_with_parent() -> None:
    while sys.stdin.buffer.read(1024):
        pass
    os._exit(0)


def main() -> None:
    """Run the capture process."""
    parser = argparse.ArgumentParser(description="Capture process of edgeprune listen.")
    parser.add_argument("--device", default=None)
    parser.add_argument("--rate", type=int, required=True)
    parser.add_argument("--block-seconds", type=float, required=True)
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    try:
        capture(options.device, options.rate, options.block_seconds)
    except BrokenPipeError:
        os._exit(0)
    except EdgepruneError as error:
        told = {"error": str(error), "hint": error.hint, "status": error.status}
        sys.stderr.write(json.dumps(told) + "\n")
        sys.stderr.flush()
        os._exit(error.status)


if __name__ == "__main__":
    main()
