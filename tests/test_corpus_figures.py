"""Figures of a corpus: every field that is drawn is in the data, and the data are the summary's."""

import json

import numpy as np
import pytest

from memvirt.inputs import Corpus, fingerprints, save
from memvirt.inputs.summary import summarize
from memvirt.report.figures.corpora import CONTENTS, of_corpus

PAGE = 4096


@pytest.fixture(scope="module")
def corpus():
    rows = np.random.Generator(np.random.PCG64(3)).integers(0, 256, (20, PAGE), np.uint8)
    rows[:3] = 0
    rows[3:5] = 9
    rows[5:8] = rows[8]
    rows[9] = rows[10]
    rows[9, :64] ^= 1
    return Corpus.of([("a", rows[:12]), ("b", np.concatenate([rows[12:], rows[8:9]]))])


@pytest.fixture(scope="module")
def summary(corpus):
    return summarize(fingerprints(corpus, [("lz4", None), ("zstd", None)]))


def fields(part):
    """Every field that an encoding names."""
    if isinstance(part, dict):
        if isinstance(part.get("field"), str):
            yield part["field"]
        for each in part.values():
            yield from fields(each)
    elif isinstance(part, list):
        for each in part:
            yield from fields(each)


def test_every_figure_draws_what_it_has(summary):
    found = of_corpus(summary)
    assert list(found) == ["contents", "sizes", "common"]
    for name, figure in found.items():
        values = figure["data"]["values"]
        assert values and json.loads(json.dumps(figure, allow_nan=False)) == figure
        drawn = set(fields({key: part for key, part in figure.items() if key != "data"}))
        assert drawn and all(drawn <= set(value) for value in values), name


def test_contents_add_up_to_all_pages(summary):
    values = of_corpus(summary)["contents"]["data"]["values"]
    percent = {(value["class"], value["part"]): value["percent"] for value in values}
    assert [round(percent["a", kind] * 12 / 100) for kind in CONTENTS] == [3, 2, 3, 2, 2]
    assert sum(percent["b", kind] for kind in CONTENTS) == pytest.approx(100)


def test_sizes_rise_to_all_units(summary):
    values = of_corpus(summary)["sizes"]["data"]["values"]
    lines: dict[tuple[str, str, str], list[float]] = {}
    for value in values:
        lines.setdefault((value["class"], value["codec"], value["unit"]), []).append(value["units_percent"])
    assert len(lines) == 3 * 2 * 3 and {unit for *_, unit in lines} == {"4 KiB", "16 KiB", "64 KiB"}
    assert all(line == sorted(line) and line[-1] == pytest.approx(100) for line in lines.values())


def test_common_pages_both_ways_and_no_figure_without(summary, corpus):
    values = of_corpus(summary)["common"]["data"]["values"]
    assert {(value["class"], value["has pages of"], value["pages"]) for value in values} == {
        ("a", "b", 4),
        ("b", "a", 1),
    }
    alone = Corpus.of([("a", corpus.pages[1:13])])
    assert list(of_corpus(summarize(fingerprints(alone, [("lz4", None)])))) == ["contents", "sizes"]


def test_figures_are_written_and_not_over_others(corpus, tmp_path, memvirt):
    save(corpus, tmp_path / "a.mvcorpus")

    def call(*words):
        code, _, err = memvirt("corpus", "info", tmp_path / "a.mvcorpus", *words)
        return code, err

    code, err = call("--figures", tmp_path / "a.mvcorpus" / "below")
    assert code == 2 and "--figures" in err
    assert call("--figures", tmp_path / "out")[0] == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "contents.vl.json", "sizes.vl.json", "common.vl.json"
    }  # fmt: skip
    code, err = call("--figures", tmp_path / "out")
    assert code == 2 and "is there already" in err
    assert call("--figures", tmp_path / "out", "--force")[0] == 0
