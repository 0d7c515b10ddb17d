"""Audio clips kept around detections.

Recording clips, files on disk, retention, locks, deletion and disk space.
"""
