"""Labelled clips as windows of samples for training and scoring.

The windows of a split, chunking, subsets of clips, augmentation, the three tasks (classes, tags,
CTC), and synthetic bird recordings for the demonstration.
"""
