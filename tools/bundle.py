#!/usr/bin/env python
"""The command ``vindr-det bundle``: vindr_det/commands/bundle.py."""

from vindr_det import cli
from vindr_det.commands.bundle import main

if __name__ == "__main__":
    cli.run(main)
