"""Turns scores into detections.

The activity gate, voice activity detection, the decision rule, smoothing, hysteresis and merging,
and speech privacy.
"""
