#!/usr/bin/env python
"""The command ``vindr-det fit-anchors``: vindr_det/commands/fit_anchors.py."""

from vindr_det import cli
from vindr_det.commands.fit_anchors import main

if __name__ == "__main__":
    cli.run(main)
