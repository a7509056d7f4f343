"""Predictions against truth: scores with intervals, comparisons, readers against readers, pictures.

In: prediction files and annotations. Out: tables, ``metrics.json``, PNGs. Imports everything but ``predict``.
"""
