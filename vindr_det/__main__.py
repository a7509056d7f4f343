"""The command line: ``vindr-det COMMAND ...`` or ``python -m vindr_det COMMAND ...``."""

import sys

from vindr_det import __version__
from vindr_det.commands import COMMANDS, main_of, names, no_such

NAME = "vindr-det"


def help_text() -> str:
    """All commands with a line each."""
    width = max(map(len, names()))
    groups = [f"{group}:\n" + "\n".join(f"  {name:{width}}  {what}" for name, what in commands.items())
              for group, commands in COMMANDS.items()]
    head = f"usage: {NAME} COMMAND [--help] ...\n\nDetects and localizes findings on chest X-rays."
    return "\n\n".join([head, *groups, f"{NAME} COMMAND --help shows the options of a command."])


def main() -> None:
    """Run the command that ``sys.argv`` names, and leave with its exit status."""
    command, *rest = sys.argv[1:] or ["--help"]
    if command in ("-h", "--help"):
        print(help_text())
    elif command == "--version":
        print(f"{NAME} {__version__}")
    elif command in names():
        from vindr_det import cli

        sys.argv = [f"{NAME} {command}", *rest]
        cli.run(main_of(command))
    else:
        sys.exit(_refuse(f"{NAME}: {command}: {no_such(command)}"))


def _refuse(line: str) -> int:
    print(line, file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
