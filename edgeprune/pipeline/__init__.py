"""The commands ``compress``, ``score``, ``sensitivity`` and ``demo``, stage by stage."""
