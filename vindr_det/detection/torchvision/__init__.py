"""The torchvision engine: torchvision's detectors, trained with Lightning, from Detectron2's keys.

In: a config with the keys of ``config``, and records. Out: checkpoints, predictors and ONNX files.
``architectures`` has an entry per detector. Prediction imports neither Lightning nor Detectron2.
"""
