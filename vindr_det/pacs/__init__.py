"""Answers that reach a PACS: DICOM objects of predictions, and a service that takes images and sends them.

``codes`` names findings by codes, ``original`` reads the image that is answered, with ``lookup_tables`` and
``text``, ``answer`` holds what is told of it; ``capture``, ``structured_report`` and ``presentation_state``
each make a kind of object, and ``objects`` all of them. ``queue`` keeps the service's work on disk,
``receiving``, ``watching`` and ``fetching`` fill it, ``predicting`` and ``sending`` empty it, ``service``
runs them.
"""
