#!/usr/bin/env python
"""The command ``vindr-det tune``: vindr_det/commands/tune.py."""

from vindr_det import cli
from vindr_det.commands.tune import main

if __name__ == "__main__":
    cli.run(main)
