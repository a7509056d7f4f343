#!/usr/bin/env python
"""The command ``vindr-det convert-tfrecords``: vindr_det/commands/convert_tfrecords.py."""

from vindr_det import cli
from vindr_det.commands.convert_tfrecords import main

if __name__ == "__main__":
    cli.run(main)
