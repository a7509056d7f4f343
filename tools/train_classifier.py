#!/usr/bin/env python
"""The command ``vindr-det train-classifier``: vindr_det/commands/train_classifier.py."""

from vindr_det import cli
from vindr_det.commands.train_classifier import main

if __name__ == "__main__":
    cli.run(main)
