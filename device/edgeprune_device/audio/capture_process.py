"""Captures the microphone in its own process.

Run as ``python -m edgeprune_device.audio.capture_process``. PortAudio may stop calling back, and
closing it may hang, without an error; a child process that does nothing but capture can be killed.
It reports what it has opened as one line of JSON, then writes audio to a ring in shared memory and
a record of each callback into a pipe (``shared_ring``). It ends with its parent: when its standard
input closes, or by a signal of the kernel. An error is one line of JSON on standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.audio.devices import (
    Device,
    NoInput,
    choose_device,
    default_device,
    list_devices,
    sound_library,
)  # fmt: skip
from edgeprune_device.audio.shared_ring import GUARD_SECONDS, Record, SharedRing, Writer
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError

BLOCK_SECONDS = 0.1
RATES = (48000, 44100, 32000, 16000)
KINDS = ("int16", "float32")
RATE_REFUSED, FORMAT_REFUSED = -9997, -9994  # PortAudio's error codes
LOOK_SECONDS = 0.5
DEATH_SIGNAL = 1  # prctl's PR_SET_PDEATHSIG
ABSENT, LOST, REFUSED = "absent", "lost", "refused"  # kinds of failure; REFUSED is permanent


def open_input(
    sound: Any, device: Device, channels: int, rate: int, callback: Any, finished: Any
) -> tuple[Any, int, str]:
    """Open an input at the wanted rate or, if that is not supported, at another one.

    Parameters
    ----------
    sound : module
        sounddevice.
    device : Device
    channels : int
        Number of channels to open.
    rate : int
        Wanted rate in Hz; then the device's own rate and ``RATES`` are tried, as int16 and float32.
    callback, finished : callable
        As in sounddevice.

    Returns
    -------
    stream, rate, kind
        The stream, not started; its rate in Hz; ``int16`` or ``float32``.

    Raises
    ------
    EdgepruneError
        The input supports none of the rates, or cannot be opened.

    """
    for tried in (rates := possible_rates(rate, device.rate)):
        for kind in KINDS:
            try:
                return (
                    sound.RawInputStream(
                        samplerate=tried, blocksize=round(BLOCK_SECONDS * tried),
                        device=device.index, channels=channels, dtype=kind,
                        callback=callback, finished_callback=finished,
                    ), tried, kind,
                )  # fmt: skip
            except sound.PortAudioError as error:
                code = error.args[1] if len(error.args) > 1 else 0
                if code == RATE_REFUSED:
                    break
                if code != FORMAT_REFUSED:
                    raise _cannot_open(device, error) from None
    raise EdgepruneError(
        f"The input {device.name} supports none of the sample rates "
        f"{', '.join(str(one) for one in rates)} Hz in 16 bits or float32.",
        "edgeprune devices prints its own rate.",
    )


def possible_rates(rate: int, own: float) -> list[int]:
    """Return the distinct rates to try, in Hz: the wanted one, the device's own, common ones."""
    return list(dict.fromkeys([rate, *([round(own)] if own >= 1 else []), *RATES]))


def channels_of(device: Device, channel: int) -> int:
    """Return how many channels to open to record one (from 1), or the mean of all (0).

    A sound server is asked for one channel: it mixes by itself, whatever number it reports.

    Raises
    ------
    EdgepruneError
        There is no such channel.

    """
    if channel > device.channels:
        raise EdgepruneError(
            f"The input {device.name} has {device.channels} channel(s), but audio.channel is "
            f"{channel}.", "audio.channel = 0 records the mean of all.",
        )  # fmt: skip
    return channel or (1 if device.mixes else device.channels)


def select_channel(data: Any, kind: str, channels: int, channel: int) -> NDArray[np.generic]:
    """Return the wanted channel of interleaved frames, or the mean of all as float32.

    Parameters
    ----------
    data : buffer
        ``channels`` values per frame.
    kind : str
        ``int16`` or ``float32``.
    channels, channel : int
        Number of open channels; channel to return, from 1, or 0 for the mean.

    Returns
    -------
    array (frames,)
        The mean is float32 in [-1, 1]; a single channel has the type ``kind``.

    """
    frames = np.frombuffer(data, kind).reshape(-1, channels)
    if channel or channels == 1:
        return frames[:, channel - 1 if channel else 0]
    mean: NDArray[np.float32] = frames.mean(axis=1, dtype=np.float32)
    return mean / np.float32(32768) if kind == "int16" else mean


class _Tap:
    """PortAudio's callback: writes audio into the ring and a record into the pipe."""

    def __init__(self, records: int, channels: int, channel: int) -> None:
        self.records, self.channels, self.channel = records, channels, channel
        self.kind, self.overflows = "int16", 0
        self.writer: Writer | None = None
        self.last = time.monotonic()

    def __call__(self, data: Any, frames: int, _time: Any, status: Any) -> None:
        now = time.monotonic_ns()
        self.overflows += bool(status.input_overflow)
        if self.writer is None:
            return
        self.writer.write(select_channel(data, self.kind, self.channels, self.channel), now)
        self.last = now / 1e9
        record = Record(self.writer.total, now, frames, self.overflows)
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # the next has the totals
            os.write(self.records, record.packed())


def capture(options: argparse.Namespace) -> None:
    """Record until the stream ends; the process ends with its standard input.

    Raises
    ------
    EdgepruneError
        There is no such input, it cannot be opened, or it has stopped.

    """
    sound, devices = sound_library(), list_devices()
    device = choose_device(options.device or None, devices, default_device())
    channels = channels_of(device, options.channel)
    tap, finished = _Tap(options.records, channels, options.channel), threading.Event()
    stream, rate, kind = open_input(sound, device, channels, options.rate, tap, finished.set)
    stored = "float32" if channels > 1 and not options.channel else kind
    capacity = round((options.buffer_seconds + GUARD_SECONDS) * rate)
    tap.kind, tap.writer = kind, Writer(SharedRing(options.ring, stored, capacity))
    told = {"identity": device.identity, "name": device.name, "rate": rate, "kind": stored,
            "channels": channels, "capacity": capacity,
            "alone": sum(device.identity in one.identities() for one in devices) == 1}  # fmt: skip
    os.write(options.records, json.dumps(told).encode() + b"\n")
    os.set_blocking(options.records, False)
    try:
        stream.start()
    except sound.PortAudioError as error:
        raise _cannot_open(device, error) from None
    _stay(sound, stream, tap, finished)
    raise EdgepruneError(f"The input {device.name} has stopped.", "Is it plugged in?", FAILED_CHECK)


def _stay(sound: Any, stream: Any, tap: _Tap, finished: threading.Event) -> None:
    """Wait until the stream has ended; for an unplugged sound card only its clock shows that."""
    while not finished.wait(LOOK_SECONDS):
        if time.monotonic() - tap.last < 2 * LOOK_SECONDS:
            continue
        try:
            if not stream.active or stream.time < 0:
                return
        except sound.PortAudioError:
            return


def _cannot_open(device: Device, error: Exception) -> EdgepruneError:
    return EdgepruneError(
        f"The input {device.name} cannot be opened: {str(error).rstrip('.')}.",
        "Is another program using it? edgeprune devices lists the inputs.", FAILED_CHECK,
    )  # fmt: skip


def _end_with_parent(parent: int) -> None:
    """Die with the parent's thread that started this process, or when standard input ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    threading.Thread(target=_read_to_the_end, daemon=True).start()


def _read_to_the_end() -> None:
    while os.read(0, 1024):  # no buffered stream: Python aborts if it exits while one is locked
        pass
    os._exit(0)


def _kind(error: EdgepruneError) -> str:
    if isinstance(error, NoInput):
        return ABSENT
    return LOST if error.status == FAILED_CHECK else REFUSED


def main() -> None:
    """Run the capture process."""
    parser = argparse.ArgumentParser(description="Capture process of edgeprune listen.")
    parser.add_argument("--device", default="")
    for name in ("--rate", "--channel", "--ring", "--records", "--parent"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--buffer-seconds", type=float, required=True)
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent handles them, and this ends with it
        signal.signal(number, signal.SIG_IGN)
    _end_with_parent(options.parent)
    try:
        capture(options)
    except BrokenPipeError:
        os._exit(0)
    except EdgepruneError as error:
        told = {"error": str(error), "hint": error.hint, "status": error.status,
                "kind": _kind(error)}  # fmt: skip
        sys.stderr.write(json.dumps(told) + "\n")
        sys.stderr.flush()
        os._exit(error.status)  # closing a stream may hang


if __name__ == "__main__":
    main()
