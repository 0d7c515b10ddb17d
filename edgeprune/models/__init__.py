"""Pretrained models.

The table of families, metadata of checkpoints, loading and saving, classification heads, adapting a
model to a shorter input, serialization of modified models, counting multiply-accumulates.
"""
