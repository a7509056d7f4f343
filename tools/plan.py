#!/usr/bin/env python
"""The command ``vindr-det plan``: vindr_det/commands/plan.py."""

from vindr_det import cli
from vindr_det.commands.plan import main

if __name__ == "__main__":
    cli.run(main)
