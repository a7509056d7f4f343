"""The competition's mAP (``vindr``) and COCO AP (``coco``), kept apart and named exactly."""
