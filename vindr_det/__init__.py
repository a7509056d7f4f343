"""Find and localize 14 findings on chest X-rays: a Detectron2 plugin with a torchvision twin."""

__version__ = "0.1.0"
