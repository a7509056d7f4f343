"""What the other folders pass to each other: boxes, label sets, records and detections.

In: arrays. Out: values that were checked where they were made. Imports only ``exceptions``.
"""
