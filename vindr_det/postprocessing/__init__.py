"""Fusion, gate, TTA and the search of their options: what happens between the models and the submission.

In: detections per image, from one or several models, and classifier probabilities per image. Out: fused and
gated detections, and files with the options that were chosen on validation images. Imports from
``detection``, ``classification``, ``metrics``, ``submission`` and what lies below them; only ``evaluation``
and ``predict`` import from here.
"""
