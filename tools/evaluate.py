#!/usr/bin/env python
"""The command ``vindr-det evaluate``: vindr_det/commands/evaluate.py."""

from vindr_det import cli
from vindr_det.commands.evaluate import main

if __name__ == "__main__":
    cli.run(main)
