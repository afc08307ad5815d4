"""The page of a report: opened in a browser as a reader would, with mouse, keyboard and a screen reader's rules."""

import csv
import html
import io
import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.made_records import folder, made
from helpers.program import call
from memvirt.errors import ConfigError
from memvirt.experiment import suite
from memvirt.report import export, notes
from memvirt.report.page import build, content, packing, tables
from memvirt.report.runs import Run, read_runs
from memvirt.results import run_folder
from memvirt.results.claims import Claim
from memvirt.results.manifest import Asked, Shown

ROOT = Path(__file__).parents[1]
QUICK = ROOT / "results" / "quick"
HOSTILE = (
    "<script>window.pwned=1</script>",
    "\"><img src=x onerror='window.pwned=1'>",
    "</script><script>window.pwned=1</script>",
    "bell\x07 and \x1b[31m escape",
    "\u202eright to left\u202c שלום עולם",
    "n" * 200,
    "{{ 7 * 7 }} ${1} &amp; \\u003c <!-- ' \"",
)


class Visit:
    """A page that was opened: what it asked for, and what it said."""

    def __init__(self, browser, path, width=1200, theme="light"):
        self.context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme)
        self.page = self.context.new_page()
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_function("document.documentElement.dataset.ready", timeout=120_000)

    def axe(self):
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [(each["id"], [node["target"] for node in each["nodes"]][:3]) for each in found]

    def column(self, index):
        return self.page.eval_on_selector_all(
            "#cells tbody tr:not([hidden])", f"rows => rows.map(row => row.cells[{index}].textContent)"
        )


@pytest.fixture(scope="module")
def run_path(tmp_path_factory):
    """Two scenarios of the published run."""
    records = [each for each in run_folder.load(QUICK) if each.base_scenario in ("zipf", "clone-storm")]
    about = run_folder.read_manifest(QUICK)
    shown = {
        name: getattr(about, name) for name in ("suite", "title", "asked", "shown", "inputs", "versions", "commit")
    }
    return folder(tmp_path_factory.mktemp("run") / "quick", records, **shown)


@pytest.fixture(scope="module")
def report_path(run_path, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "quick.html"
    assert call("report", str(run_path), "-o", str(path)) in (0, None)
    return path


@pytest.fixture(scope="module")
def visit(browser, report_path):
    opened = Visit(browser, report_path)
    yield opened
    opened.context.close()


def run_of(records, name="mine", **about):
    manifest = replace(run_folder.read_manifest(QUICK), **about)
    return Run(name, name, manifest, tuple(records), 0)


def carried(page, name):
    """What a page carries under a name, as scripts read it."""
    return packing.inflated(re.search(rf'<script type="text/plain" id="{name}">([^<]*)</script>', page)[1])


def hostile_runs():
    records = [
        made(scenario=HOSTILE[i % 2], ratio=ratio, preset=name, seed=seed, slowdown=f"{2 + i + seed / 10}")
        for ratio in ("1.00", "2.00")
        for i, name in enumerate(HOSTILE)
        for seed in range(1, 6)
        if i % 2 < 2
    ]
    records += [made(preset=HOSTILE[0], status="refused", reason=HOSTILE[1])]
    named = [replace(record, environment={"cpu_model": HOSTILE[0], HOSTILE[1]: HOSTILE[2]}) for record in records]
    asked = Asked(suite=HOSTILE[1], settings=[f"a={HOSTILE[2]}"])
    return [run_of(named, name, title=HOSTILE[2], suite=HOSTILE[0], asked=asked) for name in (HOSTILE[0], HOSTILE[3])]


# ---- a reader with a browser


def test_it_asks_nobody_and_draws_everything(visit, report_path):
    assert visit.asked == [report_path.as_uri()] and visit.said == []
    charts = visit.page.locator(".chart:visible")
    open_ones = "[...document.querySelectorAll('.chart')].filter(each => !each.closest('details'))"
    drawn = visit.page.evaluate(f"{open_ones}.map(each => each.querySelectorAll('svg path, svg text').length)")
    assert len(drawn) >= 12 and min(drawn) > 10 and charts.count() >= len(drawn)
    told = visit.page.evaluate(f"{open_ones}.map(each => each.getAttribute('aria-label'))")
    assert all(len(text) > 60 for text in told)
    wide = visit.page.evaluate(
        f"{open_ones}.map(each => each.querySelector('svg').getBoundingClientRect().width - each.clientWidth)"
    )
    assert max(wide) <= 1


def test_a_folded_ratio_draws_when_it_is_opened(visit):
    fold = visit.page.locator("details.screen summary").first
    fold.focus()
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_function("document.querySelector('details.screen[open] .chart svg')", timeout=60_000)


def test_axe_finds_nothing(visit):
    assert visit.axe() == []


def test_tables_sort_by_keyboard_and_mouse(visit):
    page = visit.page
    slowdown = page.locator("#cells th button", has_text="slowdown")
    index = slowdown.evaluate("button => button.closest('th').cellIndex")
    before = visit.column(index)
    slowdown.focus()
    page.keyboard.press("Enter")
    assert slowdown.evaluate("button => button.closest('th').getAttribute('aria-sort')") == "ascending"
    numbers = [float(text.strip("~").split("±")[0]) for text in visit.column(index) if text != "–"]
    assert (
        numbers == sorted(numbers) and visit.column(index)[-1] == "–" and sorted(before) == sorted(visit.column(index))
    )
    slowdown.click()
    numbers = [float(text.strip("~").split("±")[0]) for text in visit.column(index) if text != "–"]
    assert numbers == sorted(numbers, reverse=True) and visit.column(index)[-1] == "–"
    page.locator("#cells th button", has_text="preset").click()
    assert visit.column(2) == sorted(visit.column(2))
    assert page.locator("#cells th[aria-sort]").count() == 1


def test_tables_filter_by_words(visit):
    page = visit.page
    page.locator("#cells-filter").focus()
    page.keyboard.type("ZIPF 2.00")
    assert set(visit.column(0)) == {"zipf"} and set(visit.column(1)) == {"2.00"} and len(visit.column(0)) == 6
    assert page.locator("#cells-count").inner_text() == "6 of 36 rows"
    page.locator("#cells-filter").fill("")
    assert len(visit.column(0)) == 36


def test_what_is_downloaded_is_the_long_frame(visit, run_path):
    records = run_folder.load(run_path)
    with visit.page.expect_download() as saved:
        visit.page.get_by_role("button", name="Download CSV").click()
    rows = list(csv.reader(io.StringIO(Path(saved.value.path()).read_text())))
    expected = [["quick", *map(str, line)] for line in export.frame(records)]
    assert rows == [["run", *export.FRAME], *expected] and saved.value.suggested_filename == "memvirt.csv"
    with visit.page.expect_download() as saved:
        visit.page.get_by_role("button", name="Download JSON").click()
    found = json.loads(Path(saved.value.path()).read_text())
    assert found["rows"] == [["quick", *line] for line in export.frame(records)]
    assert visit.said == []


def test_a_phone_shows_it_without_scrolling_sideways(browser, report_path):
    opened = Visit(browser, report_path, width=360)
    try:
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360
        wide = "[...document.querySelectorAll('.chart')].filter(each => each.querySelector('svg'))"
        frame = "document.querySelector('#cells').closest('.scroll').getBoundingClientRect()"
        first = "document.querySelector('#cells tbody th + td.number').getBoundingClientRect()"
        assert opened.page.evaluate(f"{first}.right <= {frame}.right"), "a number is in sight"
        pinned = (
            "[...document.querySelectorAll('#cells thead th')].filter(th => getComputedStyle(th).left === '0px').length"
        )
        assert opened.page.evaluate(pinned) == 1
        beyond = f"{wide}.map(each => each.querySelector('svg').getBoundingClientRect().width - each.clientWidth)"
        assert max(opened.page.evaluate(beyond)) <= 1
    finally:
        opened.context.close()


def test_a_frame_that_holds_more_says_so_and_claims_are_read_one_below_the_other(browser, report_path):
    frames = "[...document.querySelectorAll('.scroll')]"
    more = "[frame.scrollWidth > frame.clientWidth + 1, frame.scrollHeight > frame.clientHeight + 1]"
    said = "frame.previousElementSibling.hidden ? '' : frame.previousElementSibling.textContent"
    cues = f"{frames}.map(frame => [...{more}, {said}])"
    for width in (360, 1280):
        opened = Visit(browser, report_path, width=width)
        try:
            found = opened.page.evaluate(cues)
            for across, down, said in found:
                assert ("sideways" in said, "down" in said) == (across, down)
            assert any(across or down for across, down, _ in found)
            claim = "document.querySelector('.stacked tbody td + td').getBoundingClientRect().width"
            assert opened.page.evaluate(claim) > 190
        finally:
            opened.context.close()


def test_in_print_it_is_black_on_white_and_whole(browser, report_path):
    """In the dark theme, too; what is pressed or typed into is left out."""
    opened = Visit(browser, report_path, theme="dark")
    try:
        opened.page.emulate_media(media="print")
        style = "getComputedStyle(document.querySelector('{}')).{}"
        assert opened.page.evaluate(style.format("body", "color")) == "rgb(0, 0, 0)"
        assert opened.page.evaluate(style.format(".chart svg text", "fill")) == "rgb(0, 0, 0)"
        assert not opened.page.locator("nav").is_visible() and not opened.page.locator("#cells-filter").is_visible()
        assert not opened.page.get_by_text("Press a head to sort").is_visible()
        assert len(opened.page.pdf(format="A4")) > 100_000
    finally:
        opened.context.close()


def test_nothing_of_a_name_runs(browser, tmp_path):
    path = tmp_path / "hostile.html"
    path.write_text(build.html(hostile_runs()), encoding="utf-8")
    opened = Visit(browser, path, theme="dark")
    try:
        assert opened.page.evaluate("window.pwned") is None and opened.said == [] and opened.asked == [path.as_uri()]
        assert "<script>window.pwned=1</script>" in opened.page.inner_text("#cells")
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= 1200
        assert opened.axe() == []
        assert opened.page.locator("#cells img").count() == 0
    finally:
        opened.context.close()


# ---- the file


def test_two_hundred_cells_in_ten_seconds_and_five_megabytes():
    """Of this process's own time: other work on the machine is not the page's."""
    records = [replace(record, seed=seed) for seed in (1, 2, 3) for record in run_folder.load(QUICK)]
    begin = time.process_time()
    text = build.html([run_of(records)])
    assert len(records) > 200 and time.process_time() - begin < 10 and len(text.encode()) < 5_000_000


def test_the_same_runs_make_the_same_page(report_path, run_path):
    """Whatever its file is called: a page that was renamed is still the one that was made."""
    assert build.html(read_runs([run_path])) == report_path.read_text(encoding="utf-8")


def test_there_is_nothing_in_it_that_would_be_fetched(report_path):
    text = html.unescape(report_path.read_text(encoding="utf-8"))
    page = re.sub(r"<script\b.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"""(src|href)=["'](?!#|data:,")""", page) and "@import" not in page and "url(" not in page
    assert text.count("<script>") == 1 and "default-src 'none'" in text
    assert "unsafe-inline" not in re.search(r"script-src [^;]*", text)[0]


def test_hostile_names_stay_inside_their_elements():
    text = build.html(hostile_runs())
    assert text.count("<script>") == 1
    page = re.sub(r"<script\b.*?</script>", "", text, flags=re.DOTALL)
    assert "<img" not in page and not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e]", page)
    for name in ("shared", "figures", "config", "frame"):
        json.loads(carried(text, f"read-{name}"))


def test_rows_are_shared_and_come_back():
    rows = [{"a": "x", "b": 1.23456789}, {"a": "y", "b": None}, {"a": "x", "c": 3}]
    packed = packing.packed(rows)
    assert packed == {"a": {"names": ["x", "y"], "at": [0, 1, 0]}, "b": [1.23457, None, None], "c": [None, None, 3]}
    shared = packing.Shared()
    figure = {"$schema": "s", "title": "t", "mark": "bar", "data": {"values": rows}}
    assert shared.add(figure) == {"mark": "bar", "data": 0} == shared.add(figure) and len(shared.sets) == 1


@given(st.text())
def test_what_is_carried_comes_back_and_ends_no_element(text):
    assert packing.inflated(packing.deflated(text)) == text
    assert re.fullmatch("[A-Za-z0-9+/=]*", packing.deflated(text))


# ---- what it says


def test_the_order_is_that_of_a_reader_s_questions(report_path):
    text = report_path.read_text(encoding="utf-8")
    places = [text.index(f'<h2 id="{anchor}">') for anchor, _ in build.SECTIONS if anchor != "beside"]
    assert places == sorted(places)
    assert "Lowest slowdown (geometric mean over scenarios)" in text and "5 seeds." in text
    assert "memvirt run quick --tier quick --corpus synthetic --out quick" in text


def test_a_report_asks_what_its_suite_asks():
    own = run_of([made()], suite="mine", title="t", description="Runs <it>.", shown=Shown(question="Is <it> fast?"))
    assert content.question(own) == ("Is <it> fast?", "Runs <it>.")
    assert '<p class="question"><bdi>Is &lt;it&gt; fast?</bdi></p>' in build.html([own])
    quick, shipped = run_of([made()], shown=Shown()), suite.load("quick")
    assert content.question(quick) == (shipped.question, shipped.description), "of a run that did not keep it"
    assert content.question(run_of([made()], title="another", description="", shown=Shown())) == (
        content.QUESTION,
        "",
    ), "of a suite with a shipped one's name"


def test_memory_of_the_machine_is_told_in_gib():
    records = [made(seed=i, environment={"memory_total_bytes": 25276510208 + 4096 * i}) for i in (1, 2)]
    assert content.environment([run_of(records)]) == [["memory total", "23.5 GiB"]]
    small = [replace(record, environment={"memory_total_bytes": 2527651840}) for record in records]
    rows = content.differing([run_of(records, "a"), run_of(small, "b")])
    assert ["machine: memory total", "23.5 GiB", "2.4 GiB"] in rows


APART = (("swap", "2.000"), ("sharing", "3.000"))


def test_findings_have_intervals_and_seeds():
    records = [
        made(preset=preset, seed=seed, slowdown=f"{slowdown + seed / 1000:.3f}")
        for preset, slowdown in (("swap", 2.0), ("sharing", 3.0))
        for seed in range(1, 6)
    ]
    head, heads, ((*row,),) = content.findings(run_of(records))
    assert [name for name, _ in heads][:3] == ["scenario", "ratio", "best"] and len(heads) == len(row)
    assert head == "slowdown, × ↓"
    assert [cell.text for cell in row] == ["zipf", "1.50", "swap", "2.00", "2.001 to 2.005", "5", "sharing", "3.00"]
    *_, ((*row,),) = content.findings(run_of([each for each in records if each.seed == 2]))
    assert [cell.text for cell in row][2:6] == ["swap (too few seeds to tell)", "2.00", "five seeds needed", "1"]
    refused = [made(status="refused", reason="no room")]
    assert content.findings(run_of(refused))[2][0][2].text == "nobody finished"
    without = [made(seed=seed, slowdown="") for seed in range(1, 6)]  # done, and about something else
    _, heads, ((*row,),) = content.findings(run_of(without))
    assert row[2].text == "no slowdown there" and [cell.text for cell in row[3:]] == ["–"] * 5
    assert [cell.number for cell in row] == [number for _, number in heads], "dashes stand under their heads"
    agreed = [made(preset=name, seed=seed, slowdown=each) for seed in range(1, 6) for name, each in APART]
    assert content.findings(run_of(agreed))[2][0][4].text == "seeds agree"


def test_those_not_told_apart_from_the_best_are_named_and_the_next_is_told():
    """Five seeds, two presets that change places, and one far behind: that is a difference."""
    values = {"a": (1.0, 1.2, 1.0, 1.2, 1.0), "b": (1.2, 1.0, 1.2, 1.0, 1.2), "far": (9.0, 9.1, 9.2, 9.1, 9.0)}
    records = [
        made(preset=preset, seed=seed, slowdown=f"{value:.3f}")
        for preset, each in values.items()
        for seed, value in enumerate(each, start=1)
    ]
    *_, ((*row,),) = content.findings(run_of(records))
    assert [cell.text for cell in row][2] == "a (not told apart from b)" and [cell.text for cell in row][6:] == [
        "far",
        "9.08",
    ]
    *_, ((*row,),) = content.findings(run_of([each for each in records if each.preset != "far"]))
    assert [cell.text for cell in row][2] == "no difference"
    near = [replace(each, preset="near", derived={**each.derived, "slowdown": "1.086"}) for each in records[:5]]
    *_, ((*row,),) = content.findings(run_of([*records, *near]))
    assert [cell.text for cell in row][2] == "a, near (alike; not told apart from b)"
    near = [replace(each, derived={**each.derived, "slowdown": "1.095"}) for each in near]
    *_, ((*row,),) = content.findings(run_of([each for each in [*records, *near] if each.seed < 3]))
    assert [cell.text for cell in row][2] == "near, a, b (alike; too few seeds to tell)"


def test_a_row_without_numbers_says_so_where_the_first_number_would_be():
    records = [made(), made(preset="none", status="refused", reason="no room")]
    heads, rows = tables.table([run_of(records)])
    assert all(len(row) == len(heads) for row in rows)
    first = [head for head, _ in heads].index("preset") + 1
    (refused,) = (row for row in rows if row[2].text == "none")
    assert refused[first].text == "refused: by admission" and refused[first].ended
    assert refused[2].heads and not any(cell.value for cell in refused[first:])


def test_what_differs_between_runs_is_told_first_things_first():
    config = {"scenario": {"name": "zipf", "description": ""}, "host": {"swap": 1}, "ratio": "1.50"}
    one = run_of([made(config=config, environment={"cpu_model": "A", "load_1min": "1"})], "one", commit="a" * 40)
    other_config = {**config, "host": {"swap": 2}}
    other = run_of(
        [made(config=other_config, environment={"cpu_model": "B", "load_1min": "2"})], "two", commit="b" * 40
    )
    rows = content.differing([one, other])
    assert rows == [["commit", "a" * 40, "b" * 40], ["machine: cpu model", "A", "B"], ["swap: host.swap", "1", "2"]]
    assert content.differing([one, one]) == []


def test_a_machine_s_name_is_not_sent_and_two_machines_are_still_told_apart():
    runs = [run_of([made(environment={"hostname": name, "cpus": 2})], name) for name in ("alice-laptop", "bobs-node")]
    assert content.environment(runs) == [["cpus", "2", "2"]]
    assert content.differing(runs) == [["machine", "machine 1", "machine 2"]]
    assert content.differing([runs[0], runs[0]]) == []
    nameless = [replace(run, name=f"run{i}", folder=f"run{i}") for i, run in enumerate(runs)]
    assert "laptop" not in build.html(nameless)


def test_a_report_says_that_it_names_places(tmp_path, capsys):
    there = folder(tmp_path / "run", [made()], asked=Asked(suite="/home/me/mine.toml", settings=["balloon=~/d.py:D"]))
    assert call("report", str(there), "-o", str(tmp_path / "out.html")) in (0, None)
    assert "places of this machine: /home/me/mine.toml, balloon=~/d.py:D" in capsys.readouterr().err


def test_runs_stand_side_by_side_in_tables_and_figures(tmp_path):
    paths = [folder(tmp_path / name / "run", [made(preset="a"), made(preset="b")]) for name in ("x", "y")]
    runs = read_runs(paths)
    assert [run.name for run in runs] == ["x/run", "y/run"]
    heads, rows = tables.table(runs)
    assert heads[0] == ("run", False) and [row[0].text for row in rows] == ["x/run", "x/run", "y/run", "y/run"]
    text = build.html(runs)
    figures = json.loads(carried(text, "read-figures"))
    assert all(figure["usermeta"]["runs"] == 2 for figure in figures)


def test_settings_say_who_set_them_and_where_they_are_from(report_path):
    settings = dict(content.settings(read_runs([QUICK])[0]))
    rows = {key: (value, who, source) for key, value, who, source in settings["zcache"]}
    assert rows["zpool_percent"][1] == "preset zcache" and "zswap" in rows["zpool_percent"][2]
    assert rows["costs.decompress"][1] == "memvirt's default" and rows["costs.decompress"][2]
    assert not any(key.startswith(("scenario", "files")) for key in rows)


def test_a_smoke_run_and_a_run_that_is_not_whole_carry_a_warning():
    smoke = run_of([made()], tier="smoke")
    text = build.html([replace(smoke, missing=3)])
    assert "NOT A MEASUREMENT" in text and "3 cells are not run yet" in text


# ---- what a reader would go wrong without


def read_of(*runs):
    """What is read on the page of some runs."""
    page = re.sub(r"<(script|style)\b.*?</\1>", "", build.html(runs), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", page)).split())


def test_the_page_has_the_caveats_of_the_other_formats():
    asleep = {"config": {"host": {"balloon": "mom"}, "scenario": {"name": "zipf", "description": ""}}}
    counters = {"evicted": 5, "harvests": 0, "decisions": 0}
    records = [made(counters=counters, preset="mom", **asleep), made(preset="none", status="refused", reason="no room")]
    run = run_of([*records, made()])
    told = notes.notes(run.groups(), run.records)
    (_, caveats), *_ = tables.caveats([run])
    assert len(caveats) >= 4 and set(caveats) < set(told), "few seeds, who slept, no marks, an ending"
    assert caveats == told[-len(caveats) :] and told[-len(caveats) - 1].startswith("↑"), "all but heads and marks"
    text = read_of(run)
    assert all(" ".join(each.split()) in text for each in caveats)
    _, rows = tables.table([run])
    assert [row[2].text for row in rows] == ["mom†", "none", "swap"]
    _, heads, ((*row,),) = content.findings(run)
    assert heads[-1] == ("not ranked", False) and row[-1].text == "mom†" and len(row) == len(heads)


def test_seeds_are_a_column_only_where_rows_differ_in_them():
    alike = [made(seed=seed) for seed in (1, 2)]
    heads, rows = tables.table([run_of(alike)])
    assert (
        ("seeds", True) not in heads and len(heads) == len(rows[0]) and "Means over 2 seeds;" in read_of(run_of(alike))
    )
    differing = run_of([*alike, made("scan")])
    heads, rows = tables.table([differing])
    assert [row[3].text for row in rows] == ["2", "1"] and heads[3] == ("seeds", True) and len(heads) == len(rows[0])
    assert "Means over 1 to 2 seeds;" in read_of(differing) and "One seed;" in read_of(run_of(alike[:1]))


def test_slowdown_is_what_it_is_in_this_run():
    stream, work = "is simulated time over that of the same stream", "is (work + waiting for memory) / work"
    timed = made("scan", vms={"a": {"work_ns": 5, "stall_ns": 0, "sim_ns": 5}})
    plain, worked, both = (read_of(run_of(records)) for records in ([made()], [timed], [made(), timed]))
    assert f"Slowdown {stream}" in plain and work not in plain
    assert f"Slowdown {work}" in worked and stream not in worked
    assert f"Slowdown in zipf {stream}" in both and f"Slowdown in scan {work}" in both
    assert "of all that VMs compute" in dict(each[:2] for each in tables.meanings([run_of([timed])]))["slowdown, × ↓"]


def test_the_page_of_traces_speaks_of_capacity_and_of_no_host():
    ran = {"kind": "trace", "derived": {"miss_ratio": "10.0"}}
    traces = run_of(
        [made(ratio="0.05", preset=name, **ran) for name in ("lru", "fifo")], shown=Shown(columns=["miss_ratio"])
    )
    text = read_of(traces)
    assert "capacity, ×" in text and "at each capacity" in text and "Capacity is the pages that fit" in text
    assert "Numbers do not depend on the machine" in text, "there is no simulated time"
    method = text[text.index("Method A trace") :]
    assert not [word for word in (", at ratio 0.05", "ratio, ×", "at each ratio") if word in text]
    assert not [word for word in ("Slowdown", "fleet", "buddy", "NUMA", "simulated time") if word in method]
    assert "ratio, ×" in read_of(run_of([made()])) and "Capacity is" not in read_of(run_of([made()]))


def test_what_is_said_of_a_clock_stands_where_its_column_does():
    said = "is in the column “simulator speed” alone"
    assert said in read_of(run_of([made()], shown=Shown())) and said not in read_of(
        run_of([made()], shown=Shown(columns=["slowdown"]))
    )


def test_baselines_are_counted_apart_and_claims_say_of_which_cells_they_speak():
    records = [made(), made(role="baseline", preset="baseline", slowdown="")]
    stated = Claim.model_validate(
        {"id": "a", "statement": "Fast.", "metric": "slowdown", "at_most": 3, "cells": ["zipf-*--swap"], "minutes": 1}
    )
    text = read_of(run_of(records, shown=Shown(claims=[stated])))
    assert "2 cells, 1 of them baselines that the others are held against" in text
    assert "baselines that" not in read_of(run_of(records[:1])) and "of which cells" in text
    assert "held Fast. zipf at 1.50: swap slowdown 2.00×" in text


def test_how_presets_are_told_apart_is_said_once():
    text = read_of(run_of([made()]))
    assert text.count("Bonferroni") == 1 and "by the 95 % interval" not in text


# ---- what cannot be


def test_a_report_of_nothing_is_a_sentence(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    mixed = folder(tmp_path / "mixed", [made(seed=1), made(seed=2, inputs={"corpus": "0" * 64})])
    whole = folder(tmp_path / "whole", [made()])
    for words, said in (
        ([tmp_path / "empty"], "not a memvirt results folder"),
        ([mixed], "unlike runs: inputs"),
        ([whole, whole], "given twice"),
        ([tmp_path / "none"], "not a memvirt results folder"),
    ):
        assert call("report", *map(str, words), "-o", str(tmp_path / "out.html")) == 2
        assert said in capsys.readouterr().err and not (tmp_path / "out.html").exists()
    baseline = folder(tmp_path / "baseline", [made(role="baseline", preset="baseline")])
    for words in (["report", "-o", str(tmp_path / "out.html")], ["plot"], ["bundle", "-o", str(tmp_path / "a.zip")]):
        assert call(words[0], str(baseline), *words[1:]) == 2
        assert f"{baseline}: no cell is finished; go on with" in capsys.readouterr().err
    assert call("report", str(whole), "-o", str(tmp_path / "no" / "out.html")) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["jinja2", "vl_convert"])
def test_without_a_library_a_sentence_says_what_to_install(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"pip install memvirt\[report\]"):
        build.html([run_of([made()])])
