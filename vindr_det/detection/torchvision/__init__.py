"""The same detectors from the package index alone: torchvision's models, trained with Lightning."""
