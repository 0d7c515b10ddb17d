"""Audio input.

Sound files, standard input, and the microphone in its own process behind a ring in shared memory;
clock drift, resampling, windows, levels.
"""
