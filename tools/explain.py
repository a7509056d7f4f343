#!/usr/bin/env python
"""The command ``vindr-det explain``: vindr_det/commands/explain.py."""

from vindr_det import cli
from vindr_det.commands.explain import main

if __name__ == "__main__":
    cli.run(main)
