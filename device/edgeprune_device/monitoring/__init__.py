"""Is what we record and score plausible.

Signal faults and health, score checks, alarms, latency, the status file, Prometheus metrics and
terminal output.
"""
