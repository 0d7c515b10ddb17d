"""Sends detections to other systems.

MQTT, webhook and command, behind one durable outbox; credentials.
"""
