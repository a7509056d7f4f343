"""What training a detector and training a classifier share.

In: a config, records, weights. Out: augmentation, the order of the images, optimizer and schedule, model EMA,
early stopping, states to resume from, pretrained weights. May import ``data`` and what lies below it; never
``detection`` or ``classification``, which both import from here.
"""
