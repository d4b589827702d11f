"""Manual pages, as a wheel has them (tests/test_wheel.py looks at a wheel)."""

import shutil
import subprocess

import pytest
from test_documented import commands

from ocistore import __version__
from ocistore.cli.commands import ocistore
from ocistore.cli.manpages import pages

PAGES = dict(pages(ocistore, __version__))


def test_every_command_has_a_page():
    assert set(PAGES) == {name.replace(" ", "-") for name in commands()}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_what_the_help_has(name):
    text = PAGES[name]
    assert f'"ocistore {__version__}"' in text
    for heading in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLE"):
        assert f".SH {heading}\n" in text
    assert "\\-h, \\-\\-help" in text
    assert "\b" not in text


def test_the_page_of_the_program_lists_the_commands():
    for name in ocistore.commands:
        assert f"ocistore\\-{name.replace('-', chr(92) + '-')}\\fR(1)" in PAGES["ocistore"]


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff here")
@pytest.mark.parametrize("name", PAGES)
def test_groff_has_nothing_to_say_about_a_page(name):
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww"], input=PAGES[name], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert name in done.stdout
