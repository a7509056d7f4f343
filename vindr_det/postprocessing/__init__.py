"""Detections and classifier probabilities to the detections that are handed in: TTA, fusion, gate, search.

In: detections and P(abnormal) per image. Out: fused and gated detections, and the settings that were found on
validation images. Imports ``detection``, ``classification``, ``metrics`` and what lies below.
"""
