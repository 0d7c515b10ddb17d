"""The recorder's settings: a table for each section of ``recorder.toml``, with its ranges."""

from __future__ import annotations

from edgeprune_device import settings, settings_reader
from generators.fields import Key, keys_of, section, sections_of
from generators.markdown import choices, line, number, table

TOLD = {
    "clips.save": "Keep the sound around each detection as a FLAC file.",
    "mqtt.host": "Name or address of the broker.",
    "mqtt.port": "Port of the broker; 8883 is usual with `tls`.",
    "mqtt.username": "User name for the broker; empty: none.",
    "mqtt.password_file": "File with the password; a relative name is looked up in systemd's "
    "credentials folder.",
    "mqtt.tls": "Encrypt the connection, with the system's certificates.",
    "mqtt.qos": "Quality of service of every message.",
    "webhook.url": "Address that receives a POST request for each detection, http or https.",
    "webhook.token_file": "File with the bearer token; a relative name is looked up in systemd's "
    "credentials folder.",
    "webhook.timeout_seconds": "Longest time for one request.",
    "command.timeout_seconds": "The program is ended after this time.",
    "retention.every_seconds": "Time between two clean-ups.",
    "security.require_signature": "Refuse a bundle that no trusted key has signed.",
}
"""Meaning of keys that have no string in the code, by their full name."""
CHOICES = {"gate.kind": settings.GATES, "load.steps": settings.SHEDDING}
SPECIAL = {
    "decide.threshold": "over 0, at most 1", "decide.thresholds": "each over 0, at most 1",
    "decide.hop_seconds": "over 0, at most 86,400",
}  # fmt: skip
"""Ranges that a lowest number close to 0 says badly, or that another check holds."""


def listing() -> str:
    """Return every section of the settings."""
    parts = sections_of(settings.Settings)
    return "\n\n".join(
        section(name, cls, allowed, TOLD, "the bundle's" if name == "decide" else "not set")
        for name, cls in parts
    )


def summary() -> str:
    """Return a table of the sections, each with what its dataclass says in a line."""
    rows = [(f"[`[{name}]`](#{name})", line(cls.__doc__ or ""), str(len(list(keys_of(cls)))))
            for name, cls in sections_of(settings.Settings)]  # fmt: skip
    return table(("Section", "What it is for", "Keys"), rows)


def allowed(name: str, key: Key) -> str:
    """Return which values of a key are allowed; empty where every one of its type is."""
    if name in SPECIAL:
        return SPECIAL[name]
    if name in CHOICES:
        shown = choices(f'"{value}"' for value in CHOICES[name])
        return f"any of {shown}" if key.type.startswith("list") else shown
    if name in settings_reader.RANGES:
        low, high = settings_reader.RANGES[name]
        return f"{number(low)} to {number(high)}"
    return choices(("true", "false")) if key.type == "boolean" else ""
