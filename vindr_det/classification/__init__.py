"""The companion classifier: images and a table of labels to models, and images to probabilities.

In: a config (``config``), tables of image-level labels (``label_table``) and images. Out: a folder with a
model per fold, out-of-fold and test predictions, metrics and operating points (``train``, ``run_folder``);
probabilities of new images (``predict``), Grad-CAM maps (``gradcam``), scores of other people's files
(``external``).

Any timm model is a backbone (``model``); other changes: ``losses``, ``sampler``, ``data`` (preprocessing and
loaders), ``splits`` (which images train, are held out and calibrate), ``operating_points`` (thresholds and
calibrations). Schedules, optimizers, EMA and augmentation are those of ``vindr_det.training``.
Post-processing imports ``probabilities`` alone, which needs no network; ``vindr_det.detection`` is neither
imported here nor imports from here.
"""
