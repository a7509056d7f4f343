"""What the README says must be so."""

import re
import shlex

import pytest
from conftest import ROOT


def commands():
    """Every `python tools/...` of the documents, continuation lines joined."""
    for name in ("README.md", "datasets/README.md", "INSTALL.md"):
        text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"python (tools/[^`\n]+)", text):
            yield pytest.param(shlex.split(line), id=f"{name}: {line[:60]}")


@pytest.mark.parametrize("outputs", commands())
def test_documented_options_exist(outputs, tool):
    help_text = tool(outputs[0].removeprefix("tools/"), "--help").stdout
    for option in [output for output in outputs if output.startswith("--")]:
        assert option in help_text, f"{outputs[0]} has no {option}"


def test_links_lead_somewhere():
    for name in ("README.md", "INSTALL.md", "CONTRIBUTING.md", "datasets/README.md"):
        path = ROOT / name
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (path.parent / target).exists(), f"{name}: {target}"
