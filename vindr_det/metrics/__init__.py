"""The competition's mAP, COCO AP, FROC, localization and TIDE; classification metrics; intervals of all.

In: image id -> detections and records with true boxes, or labels and probabilities. Out: numbers by key, with
bootstrap replicates. May import ``data`` (COCO's format) and what is below it. The metrics of detections are
one list, :data:`vindr_det.metrics.registry.METRICS`: a new one is a subclass of
:class:`vindr_det.metrics.metric.Metric` and one line there.
"""
