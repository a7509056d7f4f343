#!/usr/bin/env python
"""The command ``vindr-det serve``: vindr_det/commands/serve.py."""

from vindr_det import cli
from vindr_det.commands.serve import main

if __name__ == "__main__":
    cli.run(main)
