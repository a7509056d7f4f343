"""Predictions against truth: metrics with intervals, paired comparisons, readers against readers, pictures.

In: prediction files and annotations. Out: tables, ``metrics.json``, PNGs. Of the other folders only
``report`` and those above it may import this one. Entry:
:func:`vindr_det.evaluation.evaluate.run_evaluation`.
"""
