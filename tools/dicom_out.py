#!/usr/bin/env python
"""The command ``vindr-det dicom-out``: vindr_det/commands/dicom_out.py."""

from vindr_det import cli
from vindr_det.commands.dicom_out import main

if __name__ == "__main__":
    cli.run(main)
