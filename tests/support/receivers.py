"""Receivers for the tests of sinks: a web server that behaves as told, a real mosquitto."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from edgeprune_device.detection.events import Detection
from edgeprune_device.journal.journal import Journal


def recorder(folder: Path) -> Journal:
    """Open a journal as a live recorder."""
    return Journal(folder, "b", "d", "microphone", live=True, clock=lambda: datetime.now(UTC))


def hear(book: Journal, first: int, number: int, label: str = "robin") -> list[str]:
    """Let a recorder hear so many; return their ids."""
    return [book.add(Detection(label, 0.9, i, i + 1.0), i) for i in range(first, first + number)]


def wait_for(done: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def unique(names: list[str]) -> list[str]:
    """Return each name where it first stands."""
    return list(dict.fromkeys(names))


class Web:
    """A web server on a free port of this machine.

    ``answer(number, name)`` gives the status of the nth request, or seconds to wait first.
    """

    def __init__(self, answer: Callable[[int, str], int | float], port: int = 0) -> None:
        self.heard: list[str] = []
        self.took: list[str] = []
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                web.requests.append((self.path, dict(self.headers), body))
                web.heard.append(body["id"])
                status = answer(len(web.heard), body["id"])
                if isinstance(status, float):
                    time.sleep(status)
                    status = 200
                if status < 300:
                    web.took.append(body["id"])
                try:
                    self.send_response(status)
                    if 300 <= status < 400:
                        self.send_header("Location", "/elsewhere")
                    self.end_headers()
                except OSError:  # the other side has gone
                    return

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def secure(self, cert: Path, key: Path) -> None:
        """Speak TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> Web:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that signs itself; return it and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name)
        .public_key(key.public_key()).serial_number(1)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )  # fmt: skip
    return folder / "cert.pem", folder / "key.pem"


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def mosquitto(folder: Path, port: int, *lines: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a real broker on a port, with lines of its configuration."""
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    if not Path(program).is_file():
        pytest.skip("mosquitto is not installed")
    config = folder / f"mosquitto-{port}.conf"
    config.write_text("\n".join((f"listener {port} 127.0.0.1", "user root", *lines)) + "\n")
    with subprocess.Popen([program, "-c", config], stderr=subprocess.DEVNULL) as broker:
        try:
            wait_for(lambda: reachable(port), 10)
            yield broker
        finally:
            broker.terminate()


def reachable(port: int) -> bool:
    """Say whether something listens on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


class Listener:
    """A subscriber with a session that outlives the broker's absence; keeps what came, in order."""

    def __init__(self, port: int, topic: str, name: str = "listener") -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.came: list[tuple[str, Any, bool]] = []
        self.client = Client(CallbackAPIVersion.VERSION2, name, clean_session=False)
        self.client.reconnect_delay_set(1, 1)
        subscribed = threading.Event()
        self.client.on_connect = lambda client, *_: client.subscribe(topic, 1)
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.on_message = lambda _c, _u, message: self.came.append(
            (message.topic, json.loads(message.payload), message.retain)
        )
        self.client.connect("127.0.0.1", port, 5)
        self.client.loop_start()
        assert subscribed.wait(10)

    @property
    def names(self) -> list[str]:
        """Ids of the detections that came."""
        return [body["id"] for topic, body, _ in list(self.came) if "/detections/" in topic]

    def close(self) -> None:
        """End."""
        self.client.disconnect()
        self.client.loop_stop()
