#!/usr/bin/env python
"""The command ``vindr-det classify``: vindr_det/commands/classify.py."""

from vindr_det import cli
from vindr_det.commands.classify import main

if __name__ == "__main__":
    cli.run(main)
