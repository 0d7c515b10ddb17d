"""Where detections and coverage are stored.

SQLite and JSON lines, the write queue, recovery after a crash, export, coverage by hour, and stream
time to UTC.
"""
