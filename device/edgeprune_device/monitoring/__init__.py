"""Checks whether the recorded signal and the scores are plausible, and reports the status.

Signal faults and health, score checks, alarms, latency, the status file, Prometheus metrics and
terminal output.
"""
