"""From a PyTorch model to a float ONNX or TFLite file.

Rewrites that make a graph fast on a runtime, the two converters, file metadata, the float bundle
around the file, and timing of a file.
"""
