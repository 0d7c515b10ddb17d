"""The latency report, ``edgeprune bench``.

Latency, memory and size of bundles side by side on this machine, measured in worker processes,
summed up, compared with earlier results and written as tables and plots.
"""
