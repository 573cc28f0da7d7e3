"""Manifests: strict, and true of the four that are shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from unif2ace_data.errors import UserError
from unif2ace_data.sources.manifest import load_manifest

MINE = """
name: mine
title: My photographs
licence: {spdx: CC0-1.0, link: "https://creativecommons.org/publicdomain/zero/1.0/"}
non_commercial: false
redistribution: true
"""


@pytest.mark.parametrize("name", ["ffhq", "mm-celeba-hq", "celebv-hq"])
def test_known_datasets_say_what_a_release_must_repeat(name: str) -> None:
    manifest = load_manifest(name)
    assert manifest.name == manifest.layout == name
    assert manifest.licence.text and manifest.licence.link.startswith("https://")
    assert manifest.non_commercial and manifest.attribution and manifest.removal and manifest.homepage
    assert manifest.subjects == "unknown", "none of them vouches that it shows adults only"
    assert manifest.redistribution == (name == "ffhq")


def test_complete_copies_are_known_by_their_counts() -> None:
    assert load_manifest("ffhq").expected.photos == 70_000
    assert load_manifest("mm-celeba-hq").expected.captions == 10 * (load_manifest("mm-celeba-hq").expected.photos or 0)
    assert load_manifest("celebv-hq").expected.clips == 35_666


def test_a_manifest_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    manifest = load_manifest(str(path))
    assert manifest.licence.text == "CC0-1.0" and manifest.layout == "folder" and manifest.expected.photos is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINE + "licens: x\n", "licens: Extra inputs"),
        (MINE.replace("mine", "My Photos"), "name: .*pattern"),
        (MINE + "subjects: grown-ups\n", "subjects"),
        (MINE.replace("spdx", "spdxx"), "licence: .*give `spdx`"),
        ("title: only\n", "(?s)name.*licence.*non_commercial.*redistribution"),
        ("- a list\n", "a manifest is a mapping"),
        ("a: [", "YAML"),
        (b"\xff\xfe\xff", "YAML"),
    ],
)
def test_what_does_not_hold_is_named(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message) as caught:
        load_manifest(str(path))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["no-such", "attributes", "missing.yaml"])
def test_unknown_names_are_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(UserError, match="celebv-hq, ffhq, folder, mm-celeba-hq") as caught:
        load_manifest(name)
    assert caught.value.exit_code == 2
