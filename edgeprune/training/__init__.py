"""Training.

The training loop, fine-tuning the teacher, SSF, knowledge distillation, training some modules only,
and the record that every step writes.
"""
