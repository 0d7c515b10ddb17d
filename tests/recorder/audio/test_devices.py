"""Inputs keep their names over boots and plugs, and another is never taken in silence."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_sound_fixture import Fake
from pulse_fixture import Pulse

from edgeprune_device.audio.devices import (
    Device,
    NoInput,
    choose_device,
    identified,
    list_devices_in_child,
    table,
)
from edgeprune_device.errors import EdgepruneError


@dataclass(frozen=True)
class Card:
    """A USB sound card as the kernel shows it."""

    number: int
    port: str = "1-1.2"
    name: str = "Device"
    vendor: str = "0d8c"
    product: str = "0014"
    serial: str = ""


def make_tree(root: Path, *cards: Card) -> list[Device]:
    """Write /proc/asound and /sys of some cards; return what PortAudio would list."""
    for card in cards:
        asound = root / "proc/asound" / f"card{card.number}"
        asound.mkdir(parents=True)
        (asound / "id").write_text(card.name + "\n")
        (asound / "usbid").write_text(f"{card.vendor}:{card.product}\n")
        usb = root / "sys/devices/platform/soc/3f980000.usb/usb1/1-1" / card.port
        sound = usb / f"{card.port}:1.0" / "sound" / f"card{card.number}"
        sound.mkdir(parents=True)
        (usb / "idVendor").write_text(card.vendor + "\n")
        (usb / "idProduct").write_text(card.product + "\n")
        if card.serial:
            (usb / "serial").write_text(card.serial + "\n")
        (sound / "device").symlink_to("../../../" + f"{card.port}:1.0")
        links = root / "sys/class/sound"
        links.mkdir(parents=True, exist_ok=True)
        (links / f"card{card.number}").symlink_to(os.path.relpath(sound, links))
    listed = [
        Device(i, f"USB PnP Sound Device: Audio (hw:{card.number},0)", "ALSA", 1, 44100.0)
        for i, card in enumerate(sorted(cards, key=lambda card: card.number))
    ]
    return identified([*listed, Device(len(listed), "default", "ALSA", 32, 44100.0)], root)


def test_a_usb_microphone_is_told_by_its_serial_number(tmp_path: Path) -> None:
    first, default = make_tree(tmp_path, Card(1, serial="A1"))
    assert first.identity == "usb:0d8c:0014:A1"
    assert first.identities() == ["usb:0d8c:0014:A1", "usb-path:1-1.2", "alsa:Device",
                                  "usb:0d8c:0014", "USB PnP Sound Device: Audio (hw:1,0)"]  # fmt: skip
    assert (default.identity, default.mixes, first.mixes) == ("default", True, False)


def test_renumbered_it_is_still_found_and_its_neighbour_is_not_taken(tmp_path: Path) -> None:
    one, two = Card(1, "1-1.2", "Device", serial="A1"), Card(2, "1-1.3", "Device_1", serial="B2")
    before = make_tree(tmp_path / "a", one, two)
    other = Card(2, "1-1.2", "Device_1", serial="A1"), Card(1, "1-1.3", "Device", serial="B2")
    after = make_tree(tmp_path / "b", *other)
    for serial in ("A1", "B2"):
        wanted = f"usb:0d8c:0014:{serial}"
        assert choose_device(wanted, before, -1).serial == serial
        assert choose_device(wanted, after, -1).serial == serial
    alone = make_tree(tmp_path / "c", other[1])
    with pytest.raises(NoInput, match="no input 'usb:0d8c:0014:A1'"):
        choose_device("usb:0d8c:0014:A1", alone, -1)


def test_twins_without_a_serial_number_or_with_the_same_are_told_by_their_sockets(
    tmp_path: Path,
) -> None:
    for serial in ("", "000000"):
        twins = make_tree(tmp_path / f"t{serial}", Card(1, "1-1.2", "Device", serial=serial),
                          Card(2, "1-1.3", "Device_1", serial=serial))  # fmt: skip
        assert [d.identity for d in twins[:2]] == ["usb-path:1-1.2", "usb-path:1-1.3"]
        assert choose_device("usb-path:1-1.3", twins, -1).index == 1
        assert choose_device("alsa:Device_1", twins, -1).index == 1
        with pytest.raises(EdgepruneError, match="2 inputs match input 'usb:0d8c:0014'") as error:
            choose_device("usb:0d8c:0014", twins, -1)
        assert not isinstance(error.value, NoInput)
        assert "usb-path:1-1.2" in error.value.hint


def test_a_card_that_is_on_no_bus_is_told_by_its_alsa_name_and_its_second_input_by_a_number(
    tmp_path: Path,
) -> None:
    asound = tmp_path / "proc/asound/card0"
    asound.mkdir(parents=True)
    (asound / "id").write_text("sndrpihifiberry\n")
    listed = [Device(i, f"snd_rpi: HiFi (hw:0,{i})", "ALSA", 2, 48000.0) for i in range(2)]
    found = identified(listed, tmp_path)
    assert [d.identity for d in found] == ["alsa:sndrpihifiberry", "alsa:sndrpihifiberry,1"]
    assert choose_device("alsa:sndrpihifiberry,1", found, -1).index == 1


def test_where_nothing_is_known_of_cards_the_name_is_the_identity(tmp_path: Path) -> None:
    listed = [Device(0, "MacBook Microphone", "Core Audio", 1, 48000.0),
              Device(1, "USB Audio: hw (hw:7,0)", "ALSA", 1, 48000.0)]  # fmt: skip
    assert [d.identity for d in identified(listed, tmp_path)] == [d.name for d in listed]


NAMES = ("USB Audio: hw 1,0", "USB Audio: hw 2,0", "default")
DEVICES = [Device(i, name, "ALSA", 1, 48000.0, identity=name)
           for i, name in zip((0, 3, 4), NAMES, strict=True)]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "index"),
    [(None, 4), ("", 4), ("3", 3), ("default", 4), ("hw 1", 0), ("HW 2,0", 3)],
)
def test_an_input_is_chosen_by_number_name_or_part_of_a_name(
    wanted: str | None, index: int
) -> None:
    assert choose_device(wanted, DEVICES, 4).index == index


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [("7", "There is no input '7'"), ("webcam", "There is no input 'webcam'"),
     ("USB", "2 inputs match input 'USB'")],
)  # fmt: skip
def test_another_input_is_never_taken_in_silence(wanted: str, sentence: str) -> None:
    with pytest.raises(EdgepruneError, match=sentence) as error:
        choose_device(wanted, DEVICES, 4)
    assert "USB Audio: hw 2,0" in error.value.hint


def test_a_machine_without_inputs_says_so() -> None:
    with pytest.raises(EdgepruneError, match="There is no input"):
        choose_device(None, [], -1)
    assert table([]) == "No input was found; plug in a microphone."


def test_without_a_default_the_only_input_is_taken_and_of_several_none() -> None:
    assert choose_device(None, DEVICES[:1], -1).index == 0
    with pytest.raises(EdgepruneError, match="None of the 3 inputs is the default"):
        choose_device(None, DEVICES, -1)


def test_the_table_shows_identities_first_and_json_has_every_field(tmp_path: Path) -> None:
    found = make_tree(tmp_path, Card(1, serial="A1"))
    head, first, _ = table(found).splitlines()
    assert head.split() == ["identity", "name", "number"]
    assert first.startswith("usb:0d8c:0014:A1  USB PnP Sound Device: Audio (hw:1,0)  1 ch")
    told = json.loads(json.dumps(found[0].as_dict()))
    assert told["usb_path"] == "1-1.2"
    assert told["identities"][-1] == found[0].name


def test_the_inputs_are_found_by_another_process(fake_sound: Fake) -> None:
    fake_sound(devices=[["oak", 2, 48000], ["speaker", 0, 48000], ["pine", 1, 44100]])
    found = list_devices_in_child()
    assert [(d.index, d.identity, d.channels, d.rate, d.host_api) for d in found] == [
        (0, "oak", 2, 48000.0, "Fake"), (2, "pine", 1, 44100.0, "Fake")]  # fmt: skip


def test_a_sound_server_that_hangs_is_a_sentence_and_not_a_wait(
    pulse: Pulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in pulse.environment.items():
        monkeypatch.setenv(name, value)
    assert "default" in [device.name for device in list_devices_in_child()]
    pulse.freeze()
    with pytest.raises(EdgepruneError, match="has not responded for 1 s") as error:
        list_devices_in_child(1)
    assert error.value.status == 1


def test_a_sound_library_that_is_missing_or_broken_is_a_sentence(
    fake_sound: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_sound()
    for text, sentence, status in (
        ("raise OSError('PortAudio library not found')", "PortAudio is missing", 3),
        ("import os; os.abort()", r"cannot be listed \(status -6\)", 1),
    ):
        (tmp_path / "sounddevice.py").write_text(text + "\n")
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
        with pytest.raises(EdgepruneError, match=sentence) as error:
            list_devices_in_child()
        assert error.value.status == status
