"""Structured pruning inside layers, the step ``trim``.

Attention heads, feed-forward columns, convolution channels and hidden size: the units, masks,
learned gates, importance criteria, cost and latency models, and the removal itself.
"""
