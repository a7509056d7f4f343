"""The values that all folders exchange: boxes, label sets, records and detections.

In: arrays. Out: values that are checked where they are made. Imports only ``exceptions``; every folder may
import it.
"""
