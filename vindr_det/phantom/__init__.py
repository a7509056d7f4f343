"""Synthetic chest X-rays in VinBigData's layout, for the demo, the tests, benchmarks and teaching.

The data flows through the modules in this order::

    anatomy    a person: body, lungs, heart, bones, vessels, as an attenuation map
    findings   the 14 findings, drawn into that map with their usual places and shapes
    radiograph attenuation to detector values
    dicom_file those values to DICOM, with the headers of the real set
    readers    three of 17 readers who miss, disagree and jitter
    dataset    the folders and tables of the competition

Nothing here is a real person, and no score on phantoms holds for real images: they
show that the software works. Same seed, same bytes.

In: a seed and sizes. Out: :func:`make_dataset` writes the folders and tables, :func:`render` draws an image.
Imports ``structures``, ``files``, ``tables`` and ``parallel``; the export to ONNX
(:mod:`vindr_det.detection.torchvision.onnx`), tools, tests and benchmarks import it.
"""

from vindr_det.phantom.dataset import make_dataset
from vindr_det.phantom.findings import Finding
from vindr_det.phantom.radiograph import render

__all__ = ["Finding", "make_dataset", "render"]
