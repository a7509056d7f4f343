"""Tables of published data sets to records, labels, folds and COCO JSON.

In: a release's CSV or JSON files. Out: a :class:`vindr_det.structures.records.Record` per image, image-level
labels, patient-disjoint folds, COCO JSON, and statistics.

``vinbigdata``, ``vindr_cxr``, ``nih``, ``nih_boxes``, ``chestx_det``, ``rsna``, ``siim_covid``,
``coco_release`` and ``yolo`` each read a release (``release``), ``consensus`` fuses its readers, ``convert``
writes any release's files, ``coco`` and ``truth`` read annotations, ``splits`` the data sets of a config,
``in_sample`` knows the images of a fit. Imports ``imaging``, ``structures`` and the single modules;
``phantom``, ``training`` and all after them may import it.
"""
