#!/usr/bin/env python
"""The command ``vindr-det fuse``: vindr_det/commands/fuse.py."""

from vindr_det import cli
from vindr_det.commands.fuse import main

if __name__ == "__main__":
    cli.run(main)
