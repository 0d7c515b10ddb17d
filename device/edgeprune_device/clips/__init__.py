"""Sound that is kept around detections.

Recording it, files on disk, retention, locks, deletion and disk space.
"""
