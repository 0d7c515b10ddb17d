"""Pretrained models.

The table of families, what a checkpoint says of itself, loading and saving, classification heads,
adapting a model to a shorter input, serialization of modified models, counting multiply-
accumulates.
"""
