#!/usr/bin/env python
"""The command ``vindr-det phantoms``: vindr_det/commands/phantoms.py."""

from vindr_det import cli
from vindr_det.commands.phantoms import main

if __name__ == "__main__":
    cli.run(main)
