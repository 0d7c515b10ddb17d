"""Where detections are sent.

MQTT, webhook and command, behind one durable outbox; credentials.
"""
