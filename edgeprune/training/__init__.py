"""How weights are learnt.

The one training loop, fine-tuning the teacher, SSF, knowledge distillation, training some modules
only, and the record every recipe step leaves.
"""
