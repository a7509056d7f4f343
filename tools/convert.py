#!/usr/bin/env python
"""The command ``vindr-det convert``: vindr_det/commands/convert.py."""

from vindr_det import cli
from vindr_det.commands.convert import main

if __name__ == "__main__":
    cli.run(main)
