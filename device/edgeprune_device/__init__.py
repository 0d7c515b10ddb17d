"""The recorder: runs a bundle on live sound with numpy, one runtime and a sound card."""
