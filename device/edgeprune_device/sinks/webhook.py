"""Sends a POST request with JSON for each detection.

2xx is success. The status codes 400, 409, 411, 413, 415 and 422 reject this very message, which is
skipped after a few tries; after any other response (such as for a wrong token or path), or none, it
is retried without limit. ``Idempotency-Key`` is the detection's id, so that a message that arrives
twice is recognised. Redirects are not followed, because they would send the token elsewhere.
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Webhook
from edgeprune_device.sinks.credentials import Secret
from edgeprune_device.sinks.sender import Message, NotSentError, Sender, target_of

REFUSED = frozenset({400, 409, 411, 413, 415, 422})
SCHEMES = ("http", "https")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Turns a redirect into an error."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow no redirect."""


def make_webhook(settings: Webhook, token: Secret) -> Sender:
    """Return the sender of a webhook.

    Raises
    ------
    EdgepruneError
        The address is not an http or https address.

    """
    parts = urlsplit(settings.url)
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise EdgepruneError("webhook.url is not an http:// or https:// address.")
    opener = urllib.request.build_opener(
        _NoRedirect, urllib.request.HTTPSHandler(context=ssl.create_default_context())
    )
    headers = {"Content-Type": "application/json", "User-Agent": "edgeprune"}
    if token:
        headers["Authorization"] = f"Bearer {token.reveal()}"
    where = f"{parts.scheme}://{parts.hostname}"  # a path or a query is often secret itself

    def send(message: Message) -> None:
        request = urllib.request.Request(
            settings.url, json.dumps(message, ensure_ascii=False).encode(),
            {**headers, "Idempotency-Key": str(message["id"])}, method="POST",
        )  # fmt: skip
        try:
            with opener.open(request, timeout=settings.timeout_seconds):
                return  # every 2xx; others raise
        except urllib.error.HTTPError as error:
            error.close()
            text = f"{where} returned status {error.code}"
            raise NotSentError(text, refused=error.code in REFUSED) from None
        except urllib.error.URLError as error:
            reason = getattr(error.reason, "strerror", None) or type(error.reason).__name__
            raise NotSentError(f"{where} cannot be reached: {reason}") from None
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise NotSentError(f"{where} did not respond: {reason}") from None

    return Sender("webhook", target_of(settings.url), send, opener.close)
