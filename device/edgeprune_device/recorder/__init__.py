"""The recorder, ``edgeprune listen``.

The processing loop and everything around it: the source of sound, the schedule, load shedding,
housekeeping and session statistics.
"""
