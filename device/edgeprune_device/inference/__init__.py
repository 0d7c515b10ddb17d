"""Runs a bundle's model.

ONNX Runtime and LiteRT, third-party models through adapters, incremental scoring of overlapping
windows, the self-test against golden outputs, the choice of the faster variant, installed bundles
and CTC decoding.
"""
