#!/usr/bin/env python
"""The command ``vindr-det gate``: vindr_det/commands/gate.py."""

from vindr_det import cli
from vindr_det.commands.gate import main

if __name__ == "__main__":
    cli.run(main)
