"""Compression in closed form, without a gradient step: the step ``reconstruct``.

A few hundred calibration clips give the moments of each layer's inputs; least squares fit what is
left of a layer to what the original gave, layer after layer.
"""
