"""Measured cuts: ablation, greedy removal, Euclidean convexity and the probe, each by an oracle."""

from __future__ import annotations
