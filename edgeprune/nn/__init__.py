"""PyTorch modules and losses.

The model classes transformers lacks (KWT, CNN14, CLAP's audio tower, our student), spectrogram
front ends inside the graph, and the layers that replace larger ones. A module here knows no table
of families and no file.
"""
