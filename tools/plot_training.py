#!/usr/bin/env python
"""The command ``vindr-det plot-training``: vindr_det/commands/plot_training.py."""

from vindr_det import cli
from vindr_det.commands.plot_training import main

if __name__ == "__main__":
    cli.run(main)
