"""Detectors of findings, by two engines that read the same YAML.

In: a config, and COCO annotations with their images (``data``). Out: checkpoints and predictors, which turn
images into :class:`vindr_det.structures.detections.Predictions`. ``engine`` chooses the engine,
``loading`` reads configs and checkpoints, ``interface`` has the protocols; all other modules here are shared
by both engines. Imports ``metrics``, ``training`` and what lies below, never ``classification``;
``detectron2/`` alone imports Detectron2, ``torchvision/`` alone torchvision's detectors.
"""
