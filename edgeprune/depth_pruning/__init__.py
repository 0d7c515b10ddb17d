"""Layer pruning: which layers a task needs, and removing the others.

Hidden states of every layer, scores, layer-removal ablation, selection rules, linear bridges over
removed spans, and the step ``depth``.
"""
