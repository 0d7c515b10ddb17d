"""The workstation: from an audio transformer and labelled clips to a bundle for the recorder."""

__version__ = "0.1.0"
