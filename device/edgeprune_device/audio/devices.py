"""The audio inputs of this machine, by identities that do not change (``edgeprune devices``).

A sound card's number may change with every boot. An input is therefore identified by the first of
these that no other input of the machine shares:

    usb:0d8c:0014:SERIAL    vendor, product and serial number: the same device at any USB port
    usb-path:1-1.2          the USB port it is plugged into
    alsa:Device             the sound card's ALSA name
    default                 PortAudio's name, if there is no sound card behind it

A second input of the same sound card has its number after a comma. The facts are read from
``/proc/asound`` and ``/sys``, because PortAudio knows none of them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeprune_device.errors import FAILED_CHECK, NOT_INSTALLED, EdgepruneError
from edgeprune_device.system.child_process import run_module

CARD = re.compile(r"\(hw:(\d+),(\d+)\)")
ROOT = Path("/")
NO_INPUTS = "Plug one in: edgeprune devices lists the inputs, and listen --wait waits for one."


class NoInput(EdgepruneError):
    """No input matches: it may be plugged in later."""


@dataclass(frozen=True)
class Device:
    """An audio input."""

    index: int
    """PortAudio's number; may change with the next boot."""
    name: str
    """PortAudio's name."""
    host_api: str
    """Host API, such as ``ALSA`` or ``Core Audio``."""
    channels: int
    """Largest number of input channels."""
    rate: float
    """Default sampling rate in Hz."""
    card: str = ""
    """The sound card's ALSA name; empty if there is no sound card behind it."""
    subdevice: int = 0
    """Number of the input on its sound card."""
    usb_path: str = ""
    """USB bus and ports, such as ``1-1.2``."""
    usb_id: str = ""
    """USB vendor and product, such as ``0d8c:0014``."""
    serial: str = ""
    """USB serial number."""
    identity: str = ""
    """The most specific of its identities that no other input shares."""

    def identities(self) -> list[str]:
        """Return all its identities, the most specific first; other inputs may share them."""
        usb = f"usb:{self.usb_id}" if self.usb_id else ""
        ones = [f"{usb}:{self.serial}" if usb and self.serial else "",
                f"usb-path:{self.usb_path}" if self.usb_path else "",
                f"alsa:{self.card}" if self.card else "", usb]  # fmt: skip
        behind = f",{self.subdevice}" if self.subdevice else ""
        return [one + behind for one in ones if one] + [self.name]

    @property
    def mixes(self) -> bool:
        """Whether a sound server or ALSA plug-in is in between, which mixes channels to one."""
        return self.host_api == "ALSA" and not CARD.search(self.name)

    def as_dict(self) -> dict[str, Any]:
        """Return all fields and ``identities``."""
        return asdict(self) | {"identities": self.identities()}


def list_devices(root: Path = ROOT) -> list[Device]:
    """Return the inputs that PortAudio finds on this machine.

    Raises
    ------
    EdgepruneError
        PortAudio is not installed (status 3).

    """
    sound = sound_library()
    apis = [str(api["name"]) for api in sound.query_hostapis()]
    found = [
        Device(index, str(told["name"]), apis[int(told["hostapi"])],
               int(told["max_input_channels"]), float(told["default_samplerate"]))
        for index, told in enumerate(sound.query_devices())
        if told["max_input_channels"] > 0
    ]  # fmt: skip
    return identified(found, root)


def list_devices_in_child(seconds: float = 20.0) -> list[Device]:
    """Return the inputs, found by a child process that is killed if a sound server hangs.

    Parameters
    ----------
    seconds : float
        Timeout.

    Raises
    ------
    EdgepruneError
        PortAudio is not installed (status 3), or does not respond (status 1).

    """
    try:
        done = run_module("edgeprune_device.audio.devices", (), seconds)
        told = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        raise EdgepruneError(
            f"The sound library has not responded for {seconds:g} s.",
            "A sound server or a device hangs: restart it.", FAILED_CHECK,
        ) from None  # fmt: skip
    except (IndexError, ValueError):
        last = done.stderr.strip().splitlines()[-1:]
        raise EdgepruneError(
            f"The inputs cannot be listed ({last[0] if last else f'status {done.returncode}'}).",
            "Is PortAudio damaged? sudo apt install --reinstall libportaudio2", FAILED_CHECK,
        ) from None  # fmt: skip
    if "error" in told:
        raise EdgepruneError(told["error"], told["hint"], told["status"])
    return [Device(**one) for one in told["devices"]]


def identified(found: Iterable[Device], root: Path = ROOT) -> list[Device]:
    """Return inputs with the facts on their sound cards from ``/proc/asound`` and ``/sys``."""
    known = [Device(**{**asdict(device), **_card_facts(device.name, root)}) for device in found]
    shared = Counter(identity for device in known for identity in set(device.identities()))
    return [
        Device(**{**asdict(device), "identity": next(
            (one for one in device.identities() if shared[one] == 1), device.name)})
        for device in known
    ]  # fmt: skip


def default_device() -> int:
    """Return the number of the default input; -1 if there is none."""
    told = sound_library().default.device[0]
    return -1 if told is None else int(told)


def choose_device(wanted: str | None, devices: Sequence[Device], default: int) -> Device:
    """Return the one input that is meant; never silently another.

    Parameters
    ----------
    wanted : str or None
        An identity, a number, a name, or a part of a name; None: the system's default, or the only
        input.
    devices : sequence of Device
        As from ``list_devices``.
    default : int
        Number of the default input; -1 if there is none.

    Raises
    ------
    NoInput
        No input matches.
    EdgepruneError
        Several inputs match.

    """
    asked = f"input {wanted!r}" if wanted else "input"
    if not wanted:
        fitting = [d for d in devices if d.index == default] or list(devices)
    else:
        ways = (
            [d for d in devices if wanted in d.identities()],
            [d for d in devices if wanted.isdecimal() and d.index == int(wanted)],
            [d for d in devices if not wanted.isdecimal() and wanted.lower() in d.name.lower()],
        )
        fitting = next((way for way in ways if way), [])
    listed = "; ".join(f"{d.index} {d.identity} ({d.name})" for d in devices)
    hint = f"Known inputs: {listed}." if listed else NO_INPUTS
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise NoInput(f"There is no {asked}.", hint)
    if not wanted:
        message = f"None of the {len(fitting)} inputs is the default; choose one with --device."
    else:
        message = f"{len(fitting)} inputs match {asked}."
    raise EdgepruneError(message, hint)


def table(devices: Sequence[Device]) -> str:
    """Return the inputs as a text table, identities first."""
    if not devices:
        return "No input was found; plug in a microphone."
    rows = [("identity", "name", "", "", "number")] + [
        (d.identity, d.name, f"{d.channels} ch", f"{d.rate:g} Hz", str(d.index)) for d in devices
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def sound_library() -> Any:
    """Return the module sounddevice.

    Raises
    ------
    EdgepruneError
        PortAudio is missing (status 3).

    """
    try:
        import sounddevice
    except OSError as error:  # the wheel contains no PortAudio on Linux
        raise EdgepruneError(
            f"The sound library PortAudio is missing ({error}).",
            "sudo apt install libportaudio2", NOT_INSTALLED,
        ) from None  # fmt: skip
    return sounddevice


def _card_facts(name: str, root: Path) -> dict[str, Any]:
    """Return the fields known from a sound card's files; none if the name has no card number."""
    match = CARD.search(name)
    if match is None:
        return {}
    number, subdevice = match.groups()
    facts: dict[str, Any] = {"subdevice": int(subdevice)}
    facts["card"] = _line(root / "proc/asound" / f"card{number}" / "id") or _line(
        root / "sys/class/sound" / f"card{number}" / "id"
    )
    facts["usb_id"] = _line(root / "proc/asound" / f"card{number}" / "usbid")
    place = (root / "sys/class/sound" / f"card{number}" / "device").resolve()
    for folder in (place, *place.parents):  # the interface's folder, then the USB device's folder
        if (folder / "idVendor").is_file():
            vendor, product = _line(folder / "idVendor"), _line(folder / "idProduct")
            return facts | {"usb_path": folder.name, "usb_id": f"{vendor}:{product}",
                            "serial": _line(folder / "serial")}  # fmt: skip
    return facts


def main() -> None:
    """Write the inputs, or an error, to standard output as one line of JSON."""
    try:
        told: dict[str, Any] = {"devices": [asdict(device) for device in list_devices()]}
    except EdgepruneError as error:
        told = {"error": str(error), "hint": error.hint, "status": error.status}
    sys.stdout.write(json.dumps(told) + "\n")


def _line(path: Path) -> str:
    """Return a small file's stripped text; empty if it cannot be read."""
    try:
        return path.read_text("utf-8", errors="replace").strip()
    except OSError:
        return ""


if __name__ == "__main__":
    main()
