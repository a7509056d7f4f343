#!/usr/bin/env python
"""The command ``vindr-det annotate``: vindr_det/commands/annotate.py."""

from vindr_det import cli
from vindr_det.commands.annotate import main

if __name__ == "__main__":
    cli.run(main)
