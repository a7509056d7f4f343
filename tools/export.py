#!/usr/bin/env python
"""The command ``vindr-det export``: vindr_det/commands/export.py."""

from vindr_det import cli
from vindr_det.commands.export import main

if __name__ == "__main__":
    cli.run(main)
