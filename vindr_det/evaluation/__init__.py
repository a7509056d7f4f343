"""Predictions against truth: metrics with intervals, paired comparisons, readers against readers, pictures.

In: prediction files and annotations. Out: tables, ``metrics.json``, PNGs. May import every folder; only
``predict`` may import this one. Entry: :func:`vindr_det.evaluation.evaluate.run_evaluation`.
"""
