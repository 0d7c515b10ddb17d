"""Common parts of all stages and commands of the workstation.

The settings of a recipe, presets, the stage cache, progress output, devices and processes, tables,
and whole-file writes. Imports no other wing.
"""
