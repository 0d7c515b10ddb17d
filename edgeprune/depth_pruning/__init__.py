"""Which layers a task needs, and dropping the others.

Hidden states of every layer, scores, layer-removal ablation, selection rules, linear bridges over
removed spans, and the step ``depth``.
"""
