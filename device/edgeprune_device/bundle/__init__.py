"""The bundle format.

Reading, writing, signing and packing of bundles; strict zip files; the manifest and its rules. No
inference runtime is opened here: a bundle is checked before any model parser reads its bytes.
"""
