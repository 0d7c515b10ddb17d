"""Sound in.

Sound files, standard input, and the microphone in a process of its own behind a ring in shared
memory; clock drift, resampling, windows, levels.
"""
