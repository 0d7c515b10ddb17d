"""Checks before deployment, ``edgeprune doctor``.

Probes of the machine, what they mean, and ``edgeprune support``, the archive for whoever helps.
"""
