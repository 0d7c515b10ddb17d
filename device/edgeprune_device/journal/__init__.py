"""Stores detections and coverage.

SQLite and JSON lines, the write queue, recovery after a crash, export, coverage by hour, and
conversion of stream time to UTC.
"""
