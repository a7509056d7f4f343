#!/usr/bin/env python
"""The command ``vindr-det demo``: vindr_det/commands/demo.py."""

from vindr_det import cli
from vindr_det.commands.demo import main

if __name__ == "__main__":
    cli.run(main)
