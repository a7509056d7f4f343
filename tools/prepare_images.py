#!/usr/bin/env python
"""The command ``vindr-det prepare``: vindr_det/commands/prepare.py."""

from vindr_det import cli
from vindr_det.commands.prepare import main

if __name__ == "__main__":
    cli.run(main)
