#!/usr/bin/env python
"""The command ``vindr-det describe``: vindr_det/commands/describe.py."""

from vindr_det import cli
from vindr_det.commands.describe import main

if __name__ == "__main__":
    cli.run(main)
