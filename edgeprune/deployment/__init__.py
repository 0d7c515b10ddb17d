"""From exported file to delivered bundle.

Quantization candidates and the choice of one, splitting off the front end for streaming, evaluation
and verification of the file itself, wrapping a third-party ONNX or TFLite file.
"""
