#!/usr/bin/env python
"""The command ``vindr-det report``: vindr_det/commands/report.py."""

from vindr_det import cli
from vindr_det.commands.report import main

if __name__ == "__main__":
    cli.run(main)
