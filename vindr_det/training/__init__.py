"""What training a detector and training a classifier share, and neither owns.

In: settings of one config. Out: augmentation, sampling order, optimizer, schedule, model EMA, early stopping,
states to resume from, pretrained weights. Imports ``data`` and what lies below; never ``detection`` or
``classification``.
"""
