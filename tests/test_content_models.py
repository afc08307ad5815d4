"""Content models: the same bytes everywhere, shares to the page, fitted as close as they say, and files that lie."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memvirt.errors import CorpusError
from memvirt.experiment import plan as planning
from memvirt.experiment.cell import prepare, run_cell
from memvirt.inputs import Corpus, fingerprints, synthetic
from memvirt.inputs.fit import distance, fit, judged, rank_gap
from memvirt.inputs.measure import same_filled
from memvirt.inputs.model import (
    MILLION,
    ClassModel,
    ContentModel,
    apportioned,
    generate,
    load_model,
    mix,
    mixes,
    read_model,
)
from memvirt.inputs.summary import summarize

PAGE = 4096
KEY = bytes(range(32))
BOTH = [("lz4", None), ("zstd", None)]
NOISE = (PAGE, 256, 1, 1, 1)

SMALL = ContentModel(
    name="small",
    source="made up",
    classes=[
        ClassModel(
            name="a",
            weight=3,
            zero=100_000,
            filled=50_000,
            filled_values=200_000,
            copies=[(2, 100_000), (5, 50_000)],
            near=100_000,
            changed_blocks=6,
            volatile=250_000,
            carried=300,
            kinds=[(1000, 256, 1, 1, 3), (2000, 40, 2, 8, 1), (4096, 16, 1, 6, 1)],
        ),
        ClassModel(name="b", weight=1, borrowed=[("a", 400_000)], kinds=[NOISE]),
    ],
)


# --- generation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pages", "seed", "step", "sha256"),
    [
        (400, 1, 0, "bf19d6f017d2a9e3de840983089c9efe70779b386d51307e03b8b6ed1af303c6"),
        (401, 2, 0, "1d4a8d9ba9b1ad202335e54e19387dd5a0a0cdb33d9df86092483b8f30f70516"),
        (400, 1, 3, "577b3030164136758e197e342d7b69a9d52b1f6fee3ec1c695ec1096408c697a"),
    ],
)
def test_the_same_bytes_on_every_machine(pages: int, seed: int, step: int, sha256: str) -> None:
    made = generate(SMALL, pages, seed, step)
    assert len(made) == pages + 1 and made.sha256 == sha256


def test_shares_are_kept_to_the_page() -> None:
    made = generate(SMALL, 4000, 3)
    a, b = (made.pages[entry.part] for entry in made.classes[1:])
    assert (len(a), len(b)) == (3000, 1000)
    zero = ~a.any(axis=1)
    assert zero.sum() == 300 and same_filled(a).sum() == 450
    assert len(np.unique(a[same_filled(a) & ~zero, 0])) <= 31
    _, counts = np.unique(made.canonical[made.classes[1].part][~same_filled(a)], return_counts=True)
    assert ((counts == 2).sum(), (counts == 5).sum(), counts.max()) == (150, 30, 5)
    inside = np.isin(made.canonical[made.classes[2].part], made.canonical[made.classes[1].part])
    assert abs(int(inside.sum()) - 400) <= 1
    near = summarize(fingerprints(made, [("lz4", None)], KEY)).classes[0].near
    assert 300 <= near <= 700  # 300 that were made near, and what they are near to


def test_kinds_are_what_they_say() -> None:
    def pages(*kind: int) -> np.ndarray:
        model = ContentModel(name="x", source="", classes=[ClassModel(name="x", weight=1, kinds=[(*kind, 1)])])
        return generate(model, 20, 1).pages[1:]

    plain = pages(1000, 16, 1, 1)
    assert plain[:, :1000].max(axis=1).all() and not plain[:, 1000:].any()
    assert len(np.unique(plain[:, :1000])) == 16
    words = pages(4096, 256, 2, 8).reshape(20, -1, 8)
    assert (words[:, :, 2:] == words[:, :1, 2:]).all() and (words[:16, 0, 2:] == words[0, 0, 2:]).all()
    assert (words[16, 0, 2:] != words[0, 0, 2:]).any() and len(np.unique(words[:, :, 0])) == 256
    assert not pages(16, 1, 1, 1)[:, 16:].any()


def test_a_step_changes_the_volatile_pages_and_only_some_of_their_blocks() -> None:
    before, after, later = (generate(SMALL, 4000, 1, step).pages[1:] for step in (0, 1, 2))
    assert (generate(SMALL, 4000, 1, 1).pages[1:] == after).all()
    changed = np.flatnonzero((before != after).any(axis=1))
    assert 700 <= len(changed) <= 750 and (changed < 3000).all()  # a quarter of 3000; zeros may come over zeros
    blocks = (before != after).reshape(4000, 64, 64).any(axis=2).sum(axis=1)
    assert blocks.max() == 6
    assert 700 < (after != later).any(axis=1).sum() <= 750


def test_what_is_carried_makes_neighbours_smaller_together_and_not_alone() -> None:
    def sizes(carried: int) -> tuple[float, float, int]:
        model = ClassModel(name="x", weight=1, carried=carried, kinds=[(3000, 256, 1, 1, 1)])
        made = generate(ContentModel(name="x", source="", classes=[model]), 512, 1)
        row = summarize(fingerprints(made, [("lz4", None)], KEY)).classes[0]
        pages, _, large = row.sizes["lz4:1"]
        return pages.ratio, large.ratio, row.near

    alone, little, much = sizes(0), sizes(300), sizes(800)
    assert alone[0] == pytest.approx(much[0], rel=0.02)
    assert alone[1] < little[1] * 0.9 < much[1] * 0.7
    assert much[2] == 0  # blocks that move do not make pages alike


@given(weights=st.lists(st.integers(1, 10**6), min_size=1, max_size=20), total=st.integers(0, 10**5))
@settings(deadline=None)
def test_apportioned_adds_up_and_is_fair(weights: list[int], total: int) -> None:
    parts = apportioned(weights, total)
    assert sum(parts) == total
    assert all(abs(part - weight * total / sum(weights)) < 1 for part, weight in zip(parts, weights, strict=True))
    if total >= len(weights):
        assert min(apportioned(weights, total, least=1)) >= 1


@pytest.mark.parametrize(
    ("pages", "seed", "step", "what"),
    [
        (1, 1, 0, "2 to 16777216 pages, not 1"),
        (10, -1, 0, "not be negative"),
        (10, 1, -1, "not be negative"),
        (1 << 25, 1, 0, "not"),
    ],
)
def test_generate_refuses(pages: int, seed: int, step: int, what: str) -> None:
    with pytest.raises(CorpusError, match=what):
        generate(SMALL, pages, seed, step)


# --- fitting -------------------------------------------------------------------------------------------------------


def test_a_model_is_recovered_from_its_own_pages() -> None:
    """Shares, copies, borrowing and volatility come back; what is generated again is close in every number."""
    made = generate(SMALL, 6000, 5)
    prints = fingerprints(made, BOTH, KEY)
    later = fingerprints(generate(SMALL, 6000, 5, step=1), BOTH, KEY)
    model = fit(prints, "again", later)
    a, b = model.classes
    assert (a.zero, a.filled) == (100_000, 50_000) and a.copies == [(2, 100_000), (5, 50_000)]
    assert a.near == pytest.approx(100_000, abs=40_000) and a.changed_blocks == pytest.approx(6, abs=3)
    # A quarter changed; 30 % are zeros, of one value or copies, whose bytes are still there, and class b has one in seven.
    assert a.volatile == pytest.approx(250_000 * 0.7 * 6 / 7, abs=10_000) and b.volatile < 60_000
    assert b.borrowed[0][0] == "a" and b.borrowed[0][1] == pytest.approx(400_000, abs=10_000)
    for row in judged(prints, model):
        assert abs(row.zero_points) < 0.1 and abs(row.same_filled_points) < 0.1, row
        assert abs(row.duplicate_points) < 3 and abs(row.near_points) < 6, row
        for key in row.ratios:
            assert row.size_bytes[key] < 60, row
            for captured, generated in row.ratios[key]:
                assert generated == pytest.approx(captured, rel=0.08), row


def test_a_corpus_of_another_make_is_met_closely() -> None:
    """The synthetic corpus is made in quite another way; sizes under both codecs and in all units come out all the same."""
    prints = fingerprints(synthetic(3000, 2), BOTH, KEY)
    for row in judged(prints, fit(prints, "synthetic")):
        assert abs(row.zero_points) < 0.1 and abs(row.duplicate_points) < 0.5 and abs(row.near_points) < 2, row
        for key, pairs in row.ratios.items():
            assert row.size_bytes[key] < 80, row
            assert all(generated == pytest.approx(captured, rel=0.12) for captured, generated in pairs), row


def test_one_codec_is_enough_for_its_own_sizes() -> None:
    prints = fingerprints(synthetic(1000, 2), [("lz4", None)], KEY)
    model = fit(prints, "x", note="pages of a seed")
    assert all(kind[1:4] == (256, 1, 1) for entry in model.classes for kind in entry.kinds)
    assert judged(prints, model)[-1].size_bytes["lz4:1"] < 40
    assert model.source.startswith("pages of a seed; fitted to 1000 pages under lz4:1 (LZ4")


def test_classes_of_one_kind_of_page_alone() -> None:
    zeros, ones = np.zeros((50, PAGE), np.uint8), np.full((50, PAGE), 1, np.uint8)
    noise = np.random.Philox(key=3).random_raw(50 * 512).view(np.uint8).reshape(50, PAGE)
    made = Corpus.of([("zeros", zeros), ("ones", ones), ("noise", noise), ("same", noise[:1].repeat(50, axis=0))])
    prints = fingerprints(made, BOTH, KEY)
    model = fit(prints, "x")
    assert [(entry.zero, entry.filled) for entry in model.classes] == [(MILLION, 0), (0, MILLION), (0, 0), (0, 0)]
    assert model.classes[3].borrowed == [("noise", MILLION)] and model.classes[3].copies == []
    for row in judged(prints, model):
        assert row.zero_points == row.same_filled_points == 0 and row.size_bytes["lz4:1"] < 10, row


def test_two_keys_cannot_be_compared() -> None:
    made = synthetic(200, 1)
    with pytest.raises(CorpusError, match="different keys"):
        fit(fingerprints(made, BOTH, KEY), "x", fingerprints(made, BOTH))


def test_distances() -> None:
    one, other = np.array([1, 2, 3, 4], np.uint16), np.array([2, 3, 4, 5], np.uint16)
    assert (distance(one, one), rank_gap(one, one)) == (0, 0)
    assert (distance(one, other), rank_gap(one, other)) == (0.25, 1)
    assert (distance(one, one + 100), rank_gap(one, one + np.uint16(100))) == (1, 100)


# --- files and mixes -----------------------------------------------------------------------------------------------


def test_round_trip(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(SMALL.text())
    assert load_model(tmp_path / "m.json") == SMALL == read_model(SMALL.text().encode())


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda m: m.update(format=2), "format"),
        (lambda m: m.update(extra=1), "extra"),
        (lambda m: m.update(classes=[]), "classes"),
        (lambda m: m["classes"].append(m["classes"][0]), "two classes are called 'a'"),
        (lambda m: m["classes"].reverse(), "borrows from a, which does not come before it"),
        (lambda m: m["classes"][0].update(zero=MILLION), "sum to 1300000 millionths"),
        (lambda m: m["classes"][0].update(zero=-1), "zero"),
        (lambda m: m["classes"][0].update(zero=1.5), "zero"),
        (lambda m: m["classes"][0].update(name="zero"), "the zero page's"),
        (lambda m: m["classes"][0].update(name="a b"), "begins with a letter or digit"),
        (lambda m: m["classes"][0].update(kinds=[]), "kinds"),
        (lambda m: m["classes"][0].update(kinds=[[5000, 1, 1, 1, 1]]), "kinds"),
        (lambda m: m["classes"][0].update(kinds=[[1, 1, 1, 9, 1]]), "kinds"),
        (lambda m: m["classes"][0].update(kinds=[[1, 1, 1, 1, 0]]), "no kind has a weight"),
        (lambda m: m["classes"][0].update(weight=0), "weight"),
        (lambda m: m["classes"][0].update(copies=[[1, 5]]), "copies"),
        (lambda m: m["classes"][0].update(changed_blocks=65), "changed_blocks"),
    ],
)
def test_a_model_that_lies(tmp_path: Path, change, what: str) -> None:
    table = json.loads(SMALL.text())
    change(table)
    file = tmp_path / "m.json"
    file.write_text(json.dumps(table))
    with pytest.raises(CorpusError, match=f"^model {file}: no content model: .*{what}") as caught:
        load_model(file)
    assert "\n" not in str(caught.value)


def test_model_files_cut_at_every_byte(tmp_path: Path) -> None:
    raw = SMALL.text().encode()
    for end in range(len(raw)):
        with pytest.raises(CorpusError) as caught:
            read_model(raw[:end])
        assert "\n" not in str(caught.value)
    with pytest.raises(CorpusError, match="are no content model; the most is"):
        read_model(b" " * ((16 << 20) + 1))
    with pytest.raises(CorpusError, match=r"nowhere cannot be read: No such file"):
        load_model(tmp_path / "nowhere")


@pytest.mark.parametrize("name", list(mixes()))
def test_published_mixes_say_where_they_are_from_and_can_be_run(name: str) -> None:
    model = mix(name)
    assert model.name == name and len(model.source) > 60 and "/" not in model.source.replace("x86-64", "")
    made = generate(model, 2000, 1)
    names = ",".join(entry.name for entry in model.classes)
    fill = [] if "heap" in names else [f"image={names}", f"private={names}"]
    plan = planning.make("quick", "smoke", only=["zcache"], seeds=[1], fill=fill)
    assert planning.misfits(plan, made) == []
    assert run_cell(prepare(made), plan.cells[0]).status == "done"


def test_a_mix_that_nobody_published() -> None:
    with pytest.raises(CorpusError, match=r"no mix is called 'debian-1'; did you mean 'debian-12'\? .mixes: "):
        mix("debian-1")
