"""What every stage and every command of the workstation runs with.

The settings of a recipe, presets, the stage cache, progress output, devices and processes, tables,
and whole-file writes. Imports no other wing.
"""
