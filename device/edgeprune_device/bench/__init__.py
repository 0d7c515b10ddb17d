"""The latency report of ``edgeprune bench``.

Latency, memory and size of bundles side by side on this machine, measured in worker processes,
summarised, compared with earlier results and written as tables and plots.
"""
