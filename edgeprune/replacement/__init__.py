"""Recipe steps that put something smaller in place of a part.

Each trains the replacement to imitate what it replaces: ``mimic`` a span of transformer blocks,
``frontend`` the waveform encoder, ``student`` the whole model.
"""
