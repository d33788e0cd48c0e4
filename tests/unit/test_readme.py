"""README is short, its links lead to files, and its settings and its picture are right."""

import re
import shlex
from textwrap import dedent
from xml.etree import ElementTree

import pytest

from ackd import config
from ackd.ctl import main as ctl
from tests.picture.__main__ import PICTURE, PROMPT
from tests.support.project import PROJECT
from tests.support.readme import README

LINKS = [link for link in re.findall(r"\]\((.+?)\)", README) if not link.startswith("#")]
SVG = "{http://www.w3.org/2000/svg}"


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize("link", LINKS)
def test_each_link_leads_to_a_file(link: str) -> None:
    assert (PROJECT / link).is_file()


def test_each_link_to_a_section_leads_there() -> None:
    titles = re.findall(r"^#+ (.+)", README, re.MULTILINE)
    anchors = {title.lower().replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#(.+?)\)", README)) <= anchors


def test_the_configuration_in_readme_is_valid() -> None:
    (example,) = re.findall(r"^    bind: .*\n(?:    .*\n)*", README, re.MULTILINE)
    assert config.parse(dedent(example).encode(), "") != config.Config()


# The picture


def test_readme_shows_the_picture() -> None:
    assert f"]({PICTURE.relative_to(PROJECT)})" in README


def texts_in_the_picture() -> list[str]:
    texts = [text.text or "" for text in ElementTree.parse(PICTURE).iter(f"{SVG}text")]
    return [text.replace("\N{NO-BREAK SPACE}", " ") for text in texts]


def test_the_command_in_the_picture_can_be_typed() -> None:
    (prompt,) = [text for text in texts_in_the_picture() if text.startswith(PROMPT)]
    program, *arguments = shlex.split(prompt.removeprefix(PROMPT))
    assert program == "ackctl"
    ctl.parser().parse_args(arguments)


def test_the_picture_has_no_status_line() -> None:
    assert not any("at most" in text for text in texts_in_the_picture())


def test_the_picture_fetches_nothing() -> None:
    # These hosts are in the namespace of SVG, and in a comment of rich.
    hosts = set(re.findall(r"//([\w.-]+)", PICTURE.read_text()))
    assert hosts == {"www.w3.org", "www.textualize.io"}
