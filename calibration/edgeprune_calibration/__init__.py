"""Labelled clips: what they are, how they are split, and how they become windows of samples."""
