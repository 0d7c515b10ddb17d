"""Publishes detections to an MQTT broker, and the recorder's state as a retained message.

    TOPIC/detections/LABEL   a detection as JSON, with its id; LABEL in letters, digits and hyphens
    TOPIC/status             {"state": "online", ...} retained; {"state": "offline"} is the will

With QoS 1 or 2 a message has arrived when the broker confirms it; with 0 this is unknown. A broken
connection is always replaced by a new one, so that the order of messages is kept and the library
sends none twice.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import unicodedata
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from edgeprune_device.errors import NOT_INSTALLED, EdgepruneError
from edgeprune_device.settings import Mqtt
from edgeprune_device.sinks.credentials import Secret
from edgeprune_device.sinks.sender import Message, NotSentError, Sender, target_of

if TYPE_CHECKING:
    from paho.mqtt.client import Client

WAIT_SECONDS = 10.0
"""Timeout of the connection, and of the broker's confirmation of a message."""
KEEPALIVE_SECONDS = 30
LONGEST_SLUG = 64
OFFLINE = json.dumps({"state": "offline"})


def slug(label: str) -> str:
    """Return a label as a topic level: lower case, words joined by hyphens, never empty.

    Letters of every script are kept; MQTT's special characters (``+``, ``#``, ``/``, NUL) are not.
    """
    text = unicodedata.normalize("NFKC", label).casefold()
    text = re.sub(r"[\W_]+", "-", text)[:LONGEST_SLUG].strip("-")
    return text or "label"


class _Broker:
    """A connection that is opened when it is needed."""

    def __init__(self, settings: Mqtt, password: Secret, identity: str) -> None:
        self._settings, self._password, self._identity = settings, password, identity
        self._client: Client | None = None
        self._lock = threading.Lock()  # close is called from another thread
        self._closed = False
        self._state = json.dumps({"state": "online"})

    def detection(self, message: Message) -> None:
        """Publish a detection."""
        topic = f"{self._settings.topic}/detections/{slug(str(message['label']))}"
        self._publish(topic, json.dumps(message, ensure_ascii=False), retain=False)

    def status(self, message: Message) -> None:
        """Publish the recorder's state."""
        self._state = json.dumps({**message, "state": "online"}, ensure_ascii=False, default=str)
        self._publish(f"{self._settings.topic}/status", self._state, retain=True)

    def close(self) -> None:
        """Publish the offline state if connected, and disconnect."""
        with self._lock:
            client, self._client, self._closed = self._client, None, True
        if client is not None:
            if client.is_connected():
                topic = f"{self._settings.topic}/status"
                with suppress(RuntimeError, ValueError):  # it broke just now: the will reports it
                    client.publish(topic, OFFLINE, 1, retain=True).wait_for_publish(1.0)
            _let_go(client)

    def _publish(self, topic: str, payload: str, *, retain: bool) -> None:
        client = self._connected()
        try:
            sent = client.publish(topic, payload, self._settings.qos, retain=retain)
            sent.wait_for_publish(WAIT_SECONDS)
            arrived = sent.is_published()
        except (RuntimeError, ValueError) as error:  # how the library reports a lost connection
            self._drop()
            raise NotSentError(f"{self._where}: {self._password.hidden_in(str(error))}") from None
        if not arrived:
            self._drop()
            raise NotSentError(f"{self._where} confirmed no message within {WAIT_SECONDS:g} s")

    @property
    def _where(self) -> str:
        return f"{self._settings.host}:{self._settings.port}"

    def _connected(self) -> Client:
        with self._lock:
            client = self._client
        if client is not None and client.is_connected():
            return client
        self._drop()
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        answered = threading.Event()
        answer: list[str] = []

        def on_connect(_c: Any, _u: Any, _f: Any, reason: Any, _p: Any) -> None:
            if reason.is_failure:
                answer.append(str(reason))
            answered.set()

        client = Client(CallbackAPIVersion.VERSION2, self._identity, reconnect_on_failure=False)
        client.on_connect = on_connect
        client.connect_timeout = WAIT_SECONDS
        client.will_set(f"{self._settings.topic}/status", OFFLINE, self._settings.qos, retain=True)
        if self._settings.username:
            client.username_pw_set(self._settings.username, self._password.reveal() or None)
        try:
            if self._settings.tls:
                client.tls_set()
            client.connect(self._settings.host, self._settings.port, KEEPALIVE_SECONDS)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise NotSentError(f"{self._where} cannot be reached: {reason}") from None
        client.loop_start()
        if not answered.wait(WAIT_SECONDS) or answer:
            _let_go(client)
            raise NotSentError(f"{self._where} refused: {answer[0] if answer else 'no response'}")
        with self._lock:
            if not self._closed:
                self._client = client
                topic = f"{self._settings.topic}/status"
                client.publish(topic, self._state, self._settings.qos, retain=True)
                return client
        _let_go(client)
        raise NotSentError("the recorder is stopping")

    def _drop(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            _let_go(client)


def make_mqtt(settings: Mqtt, password: Secret, folder: str) -> Sender:
    """Return the sender to a broker; the client id is derived from the host and the folder.

    Raises
    ------
    EdgepruneError
        paho-mqtt is not installed.

    """
    if find_spec("paho") is None:
        raise EdgepruneError(
            "mqtt.host needs paho-mqtt, which is not installed.", "pip install paho-mqtt",
            NOT_INSTALLED,
        )  # fmt: skip
    identity = f"edgeprune-{target_of(socket.gethostname(), folder, settings.topic)}"
    broker = _Broker(settings, password, identity)
    target = target_of(settings.host, settings.port, settings.topic)
    return Sender("mqtt", target, broker.detection, broker.close, broker.status)


def _let_go(client: Client) -> None:
    """Stop a client and its thread, whatever state it is in."""
    client.disconnect()
    client.loop_stop()
