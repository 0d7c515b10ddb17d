"""Metrics and statistics on numpy arrays.

Graph convexity, similarity of representations (cosine, CKA, mutual k-NN, block influence), task
metrics (accuracy, F1, mAP, token error rate), bootstrap intervals and paired tests. No files, no
torch.
"""
