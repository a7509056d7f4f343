#!/usr/bin/env python
"""The command ``vindr-det predict``: vindr_det/commands/predict.py."""

from vindr_det import cli
from vindr_det.commands.predict import main

if __name__ == "__main__":
    cli.run(main)
