"""Post-training quantization and quantization-aware training.

Dynamic and static int8, weight-only int8, int4 and fp16 for ONNX Runtime and LiteRT, and int8
sensitivity. The stage that tries the methods and keeps one is ``deployment/quantize.py``.
"""
