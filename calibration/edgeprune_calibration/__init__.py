"""Labelled clips, their splits, calibration sets, and calibration of a bundle's decision rule."""
