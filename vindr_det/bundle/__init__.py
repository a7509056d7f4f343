"""Bundles: detectors, classifier, gate and fusion with their model card, in one folder or file without
pickles.

``bundle.json`` is the manifest: what is in the bundle and the SHA-256 of each file. Weights are safetensors,
configs YAML, all else JSON; ``README.md`` is the model card.
"""

from vindr_det.bundle.card import CardFacts
from vindr_det.bundle.read import Bundle, OpenBundle, open_bundle, read_bundle
from vindr_det.bundle.write import Parts, copy_bundle, write_bundle

__all__ = ["Bundle", "CardFacts", "OpenBundle", "Parts", "copy_bundle", "open_bundle", "read_bundle",
           "write_bundle"]
