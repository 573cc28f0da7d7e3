"""The report: one page, whole in itself, the same bytes every time; the public one shows nothing that was dropped."""

from __future__ import annotations

import io
import re
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_dataset import Dataset, jpeg, row, sample, write_dataset

from unif2ace_data.errors import UserError
from unif2ace_data.release.report import MAX_BYTES, data_uri, pieces_of, table_of, write_report
from unif2ace_data.release.stats import compute_stats
from unif2ace_data.schema import Claim

PICTURE = jpeg(400, (10, 200, 30))


def page(dataset: Dataset, private: bool = False) -> str:
    """The page without plotly's own code."""
    target = dataset.work / "report.html" if private else dataset.out / "report.html"
    write_report(
        target, dataset.out, dataset.work if private else None, (lambda source_id: PICTURE) if private else None
    )
    text = target.read_text("utf-8")
    start, end = text.index("<script>"), text.index("</script>")
    return text[:start] + text[end:]


def test_the_public_page_counts_drops_and_names_none(dataset: Dataset) -> None:
    (dataset.out / "stats.json").write_bytes(orjson.dumps(compute_stats(dataset.out, dataset.ledger)))
    text = page(dataset)
    assert "yaw" in text and "−2" in text
    for private in ("turned-1", "child.jpg", "broken.jpg", "ends early", "Private page"):
        assert private not in text
    assert text.count("<img ") == 7  # the kept samples


def test_the_private_page_says_so_and_shows_examples_and_failures(dataset: Dataset) -> None:
    text = page(dataset, private=True)
    assert "Private page" in text
    assert "turned-1.jpg" in text and "60, threshold 45" in text
    assert "broken.jpg ends early" in text
    assert text.count("<img ") == 7 + 2


def test_faces_dropped_as_minors_or_nude_are_never_asked_for(dataset: Dataset) -> None:
    asked: list[str] = []
    write_report(dataset.work / "r.html", dataset.out, dataset.work, lambda source_id: asked.append(source_id))
    assert asked == ["folder/turned-1.jpg", "folder/turned-2.jpg"]
    text = (dataset.work / "r.html").read_text("utf-8")
    assert "child.jpg" not in text and "bare.jpg" not in text
    assert text.count("Photographs dropped for this reason are never shown.") == 2


def test_at_most_six_examples_a_reason_evenly_strided(tmp_path: Path) -> None:
    data = write_dataset(
        tmp_path, [(sample("a"), jpeg())], [row(f"folder/{i:02d}.jpg", reason="no_face") for i in range(12)]
    )
    asked: list[str] = []
    write_report(data.work / "r.html", data.out, data.work, lambda source_id: asked.append(source_id))
    assert asked == [f"folder/{i:02d}.jpg" for i in range(0, 12, 2)]


def test_the_same_dataset_gives_the_same_bytes(dataset: Dataset) -> None:
    assert page(dataset) == page(dataset)
    assert page(dataset, private=True) == page(dataset, private=True)


def test_the_page_forbids_every_request_and_loads_nothing(dataset: Dataset) -> None:
    text = page(dataset)
    assert "default-src 'none'" in text and "<link" not in text
    assert all(source.startswith("data:") for source in re.findall(r'\ssrc="([^"]*)"', text))


def test_whatever_a_caption_holds_is_text(tmp_path: Path) -> None:
    caption = "</script><script>alert(1)</script> \"quoted\" & 'single' <img src=x onerror=alert(2)>"
    claim = Claim(attribute="<b>", value='"><script>', span=[0, 9], verdict="unverified")
    source = sample("a").source.model_copy(
        update={"url": "javascript:alert(3)", "id": "folder/<i>.jpg", "author": "<u>"}
    )
    hostile = sample("a", caption=caption, claims=[claim], source=source)
    data = write_dataset(
        tmp_path, [(hostile, jpeg())], [row("folder/<s>.jpg", "failed", reason="<em>", detail="<marquee>")]
    )
    for text in (page(data), page(data, private=True)):
        for tag in ("<script>alert", "<img src=x", "<i>.jpg", "<u>", "<s>", "<em>", "<marquee>", 'href="javascript'):
            assert tag not in text
        assert "&lt;script&gt;alert(1)" in text


def test_claims_are_marked_in_the_caption_with_their_evidence(dataset: Dataset) -> None:
    text = page(dataset)
    note = "smile = broad · supported · confidence 0.95 · face_landmarker ab12, 0.41"
    assert re.search(rf'<mark class="supported"[^>]*data-note="{re.escape(note)}">smiles broadly</mark>', text)
    assert 'alt="A person with grey hair smiles broadly."' in text
    assert 'data-words="hair=grey | smile=broad | gaze=left"' in text


@settings(deadline=None)
@given(st.text(max_size=40), st.lists(st.tuples(st.integers(-3, 45), st.integers(-3, 45)), max_size=6))
def test_pieces_put_together_are_the_caption(caption: str, spans: list[tuple[int, int]]) -> None:
    claims = [Claim(attribute="hair", value="grey", span=list(span), verdict="supported") for span in spans]
    pieces = pieces_of(sample("a", caption=caption, claims=claims))
    assert "".join(piece.text for piece in pieces) == caption
    inside = {i for a, b in spans if 0 <= a < b <= len(caption) for i in range(a, b)}
    assert sum(len(piece.text) for piece in pieces if piece.verdict) == len(inside)


def test_overlapping_claims_show_the_worst_verdict() -> None:
    claims = [
        Claim(attribute="hair", value="grey", span=[0, 20], verdict="supported"),
        Claim(attribute="hair", value="red", span=[10, 15], verdict="contradicted"),
    ]
    pieces = pieces_of(sample("a", claims=claims))
    assert [piece.verdict for piece in pieces] == ["supported", "contradicted", "supported", ""]
    assert "measured: grey" in pieces[1].note


def test_what_is_measured_and_not_said_stands_behind_the_claims() -> None:
    lines = table_of(sample("a"))
    assert [(line.attribute, line.verdict) for line in lines] == [
        ("hair", "supported"),
        ("smile", "supported"),
        ("gaze", ""),
    ]


def test_a_claim_without_evidence_says_so() -> None:
    claims = [Claim(attribute="hat", value="yes", span=[0, 1], verdict="unverified")]
    assert table_of(sample("a", claims=claims))[0].evidence == "no evidence"


def test_at_most_two_hundred_samples_evenly_strided_and_under_20_mb(tmp_path: Path) -> None:
    noise = Image.effect_noise((300, 300), 90).convert("RGB")
    buffer = io.BytesIO()
    noise.save(buffer, "JPEG")
    picture = buffer.getvalue()
    data = write_dataset(tmp_path, [(sample(f"p{i}"), picture) for i in range(600)], [])
    write_report(data.out / "report.html", data.out, None, None)
    text = (data.out / "report.html").read_text("utf-8")
    shown = re.findall(r'<article class="card" id="([0-9a-f]{32})"', text)
    every = sorted(sample(f"p{i}").uid for i in range(600))
    assert shown == every[::3]
    assert len(text.encode()) <= MAX_BYTES


def test_captions_too_long_for_the_page_cost_samples_not_the_limit(tmp_path: Path) -> None:
    long = [(sample(f"p{i}", caption="word " * 60_000), jpeg()) for i in range(40)]
    data = write_dataset(tmp_path, long, [])
    write_report(data.out / "report.html", data.out, None, None)
    text = (data.out / "report.html").read_bytes()
    assert 0 < text.count(b'<article class="card"') < 40 and len(text) <= MAX_BYTES


def test_a_picture_that_does_not_decode_is_said_to_be_so(tmp_path: Path) -> None:
    assert data_uri(b"no picture", 64) == ""
    assert "picture does not decode" in page(write_dataset(tmp_path, [(sample("a"), b"no picture")], []))


def test_pictures_are_small() -> None:
    assert len(data_uri(PICTURE, 64)) < 2_000


def test_a_dataset_that_keeps_nothing_has_a_report(tmp_path: Path) -> None:
    text = page(write_dataset(tmp_path, [], [row("folder/a.jpg", reason="no_face")]), private=True)
    assert "0 of 0" in text


def test_a_record_that_does_not_hold_is_an_error(dataset: Dataset) -> None:
    shard = dataset.out / "train-000000.tar"
    data = shard.read_bytes()
    shard.write_bytes(data.replace(b'"split":"train"', b'"split":"trial"'))
    with pytest.raises(UserError, match=r"train-000000\.tar: .*split"):
        page(dataset)


def test_statistics_of_another_schema_are_an_error(dataset: Dataset) -> None:
    (dataset.out / "stats.json").write_text('{"kept": 7}')
    with pytest.raises(UserError, match=r"stats\.json is not of this schema"):
        page(dataset)


def test_each_face_its_own_sample_is_said_in_the_funnel(tmp_path: Path) -> None:
    data = write_dataset(
        tmp_path, [(sample("a"), jpeg())], [row("folder/b.jpg", reason="yaw", face=i) for i in range(2)]
    )
    assert "2 inputs, 3 rows (each face is one)" in page(data, private=True)
