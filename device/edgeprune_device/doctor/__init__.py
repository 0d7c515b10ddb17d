"""Checks before deployment (``edgeprune doctor``).

Probes of the machine, their judgement, and ``edgeprune support``, an archive for support requests.
"""
