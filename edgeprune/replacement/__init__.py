"""Recipe steps that replace a part of the model by a smaller one.

Each trains the replacement to imitate the original: ``mimic`` a span of transformer blocks,
``frontend`` the waveform encoder, ``student`` the whole model.
"""
