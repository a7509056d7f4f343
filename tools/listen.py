#!/usr/bin/env python
"""The command ``vindr-det listen``: vindr_det/commands/listen.py."""

from vindr_det import cli
from vindr_det.commands.listen import main

if __name__ == "__main__":
    cli.run(main)
