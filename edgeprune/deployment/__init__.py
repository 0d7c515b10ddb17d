"""From exported file to delivered bundle.

Quantization candidates tried and one chosen, the front end split off for streaming, evaluation and
verification of the file itself, wrapping a third-party ONNX or TFLite file.
"""
