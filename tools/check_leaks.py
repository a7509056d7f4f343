#!/usr/bin/env python
"""The command ``vindr-det check-leaks``: vindr_det/commands/check_leaks.py."""

from vindr_det import cli
from vindr_det.commands.check_leaks import main

if __name__ == "__main__":
    cli.run(main)
