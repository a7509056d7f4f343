"""Tables of published data sets to records, labels, folds and COCO JSON.

In: a release's CSV or JSON files. Out: :class:`vindr_det.structures.records.Record` per image, its label set,
patient-disjoint folds, COCO JSON, and statistics of all of it. Imports ``imaging`` and what lies below.
"""
