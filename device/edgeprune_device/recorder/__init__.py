"""The recorder of ``edgeprune listen``.

The processing loop and everything around it: the audio source, the schedule, load reduction,
housekeeping and session statistics.
"""
