#!/usr/bin/env python
"""The command ``vindr-det train``: vindr_det/commands/train.py."""

from vindr_det import cli
from vindr_det.commands.train import main

if __name__ == "__main__":
    cli.run(main)
