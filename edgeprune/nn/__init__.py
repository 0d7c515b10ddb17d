"""PyTorch modules and losses.

Model classes that transformers lacks (KWT, CNN14, CLAP's audio tower, edgeprune's student),
spectrogram front ends inside the graph, and layers that replace larger ones. Modules here use
neither the table of families nor files.
"""
