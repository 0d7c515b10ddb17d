"""The recipes, read top to bottom.

What ``compress``, ``score``, ``sensitivity`` and ``demo`` run, stage by stage.
"""
