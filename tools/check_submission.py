#!/usr/bin/env python
"""The command ``vindr-det check-submission``: vindr_det/commands/check_submission.py."""

from vindr_det import cli
from vindr_det.commands.check_submission import main

if __name__ == "__main__":
    cli.run(main)
