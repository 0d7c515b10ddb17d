"""The bundle format.

Reading, writing, signing and packing a bundle; strict zips; the manifest and what it may say. No
runtime is opened here: a bundle is read and checked before any model parser sees its bytes.
"""
