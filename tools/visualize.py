#!/usr/bin/env python
"""The command ``vindr-det visualize``: vindr_det/commands/visualize.py."""

from vindr_det import cli
from vindr_det.commands.visualize import main

if __name__ == "__main__":
    cli.run(main)
