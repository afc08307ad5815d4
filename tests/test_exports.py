"""Forms for other tools: what is written is read back by the tool's own library, number for number."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from helpers.made_records import folder, made
from memvirt.cli import APP
from memvirt.engine.counters import bucket_value
from memvirt.errors import ConfigError, MemvirtError
from memvirt.report import bencher, latency_logs, openmetrics, trace_events
from memvirt.results.timeline import Stretch, Timeline

LINE = Timeline(
    phases=[Stretch(phase="fill", rows=2, step_ns=8), Stretch(phase="measured", rows=3, step_ns=8)],
    sim_ns=[1000, 3000, 3000, 13_000, 13_500],
    host={
        "usage.free": [9, 4, 4, 1, 0],
        "fault_swap": [0, 7, 0, 20, 1],
        "stall_some_ns": [0, 0, 0, 5000, 500],
        "cpu_ns.swap": [0, 0, 0, 2500, 0],
    },
    vms={"vm0": {"held_pages": [1, 2, 3, 4, 5]}, "vm1": {}},
)


def run(*words):
    return CliRunner().invoke(APP, [str(word) for word in words])


# ---- HdrHistogram


@given(st.dictionaries(st.integers(0, 2600).map(bucket_value), st.integers(1, 10**9), min_size=1, max_size=40))
def test_a_latency_log_reads_back_bucket_for_bucket(tmp_path_factory, counts):
    log = pytest.importorskip("hdrh.log")
    from hdrh.histogram import HdrHistogram

    pairs = sorted(counts.items())
    path = tmp_path_factory.mktemp("log") / "a.hlog"
    path.write_text(latency_logs.dumps([made(histograms={"swap": pairs, "cow": pairs[:1]}, timeline=LINE)]))
    reader = log.HistogramLogReader(str(path), HdrHistogram(1, latency_logs.LARGEST_NS, latency_logs.DIGITS))
    for tag, wanted in (("swap", pairs), ("cow", pairs[:1])):
        found = reader.get_next_interval_histogram()
        assert found.get_tag() == f"zipf-150--swap--s1.{tag}"
        told = [(each.value_iterated_to, each.count_added_in_this_iter_step) for each in found.get_recorded_iterator()]
        assert found.get_total_count() == sum(count for _, count in wanted)
        assert [count for _, count in told] == [count for _, count in wanted]
        for (top, _), (value, _) in zip(told, wanted, strict=True):  # told are the tops of their buckets
            assert value <= top <= value + value // 128 + 1
    assert reader.get_next_interval_histogram() is None


def test_an_interval_is_the_measured_phase(tmp_path):
    log = pytest.importorskip("hdrh.log")
    from hdrh.histogram import HdrHistogram

    line = Timeline(phases=[Stretch(phase="measured", rows=2, step_ns=1)], sim_ns=[2 * 10**9, 5 * 10**9])
    (tmp_path / "a").write_text(latency_logs.dumps([made(timeline=line)]))
    found = log.HistogramLogReader(str(tmp_path / "a"), HdrHistogram(1, 1 << 47, 2)).get_next_interval_histogram()
    assert (found.get_start_time_stamp(), found.get_end_time_stamp()) == (2000, 5000)


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "hdrh.log", None)
    with pytest.raises(ConfigError, match=r"pip install memvirt\[report\]"):
        latency_logs.dumps([made()])


# ---- OpenMetrics


def families(records):
    parser = pytest.importorskip("prometheus_client.openmetrics.parser")
    return {family.name: family for family in parser.text_string_to_metric_families(openmetrics.dumps(records))}


def test_openmetrics_reads_back_every_number():
    records = [made(stores={"swap": 3}, sharing={"merges_zero": 2}), made(preset="all", seed=2)]
    found = families(records)
    labels = {"suite": "tiny", "scenario": "zipf", "ratio": "1.50", "preset": "swap", "role": "column", "seed": "1"}

    def value(name, **more):
        family = found[name.removesuffix("_total").removesuffix("_bucket")]
        (sample,) = [each for each in family.samples if each.name == name and each.labels == {**labels, **more}]
        return sample.value

    assert value("memvirt_slowdown") == 2.0 and found["memvirt_slowdown"].type == "gauge"
    assert value("memvirt_swap_pages_in_total") == 256 and found["memvirt_swap_pages_in"].type == "counter"
    assert value("memvirt_usage", use="guest") == 90 and value("memvirt_stores", place="swap") == 3
    assert value("memvirt_cpu_seconds_total", mechanism="swap") == 400e-9
    assert value("memvirt_fault_latency_seconds_bucket", fault="swap", le="+Inf") == 100
    assert value("memvirt_fault_latency_seconds_bucket", fault="swap", le="0.000000511") == 98
    assert {sample.labels["preset"] for sample in found["memvirt_slowdown"].samples} == {"swap", "all"}


@given(st.dictionaries(st.integers(0, 2600).map(bucket_value), st.integers(1, 9), min_size=1, max_size=30))
def test_bounds_of_latencies_are_exact(counts):
    (family,) = [
        family for name, family in families([made(histograms={"swap": sorted(counts.items())})]).items()
        if name == openmetrics.LATENCY
    ]  # fmt: skip
    for sample in family.samples:
        bound = float("inf") if sample.labels["le"] == "+Inf" else round(float(sample.labels["le"]) * 10**9)
        assert sample.value == sum(count for value, count in counts.items() if value <= bound)


def test_labels_are_escaped():
    config = {"scenario": {"name": 'a"\\\nb', "description": ""}}
    (sample,) = families([made(config=config)])["memvirt_slowdown"].samples
    assert sample.labels["scenario"] == 'a"\\\nb'


def test_cells_without_numbers_are_left_out():
    assert openmetrics.dumps([made(status="refused", reason="no")]) == "# EOF\n"


# ---- Bencher


def test_bencher_has_means_and_intervals_over_seeds():
    records = [made(seed=seed, slowdown=f"{1 + seed / 10:.3f}") for seed in range(1, 6)]
    found = json.loads(bencher.dumps([*records, made(preset="none", status="refused", reason="no")]))
    assert set(found) == {"zipf 1.50 swap"}
    slowdown = found["zipf 1.50 swap"]["slowdown"]
    assert slowdown["value"] == pytest.approx(1.3) and slowdown["lower_value"] < 1.3 < slowdown["upper_value"]
    assert not any("simulated_maccesses" in measure for measure in found["zipf 1.50 swap"])  # no clock of this machine
    alone = json.loads(bencher.dumps([made()]))["zipf 1.50 swap"]
    assert alone["slowdown"] == {"value": 2.0}


# ---- Chrome's trace events


MEMORY, CPU = "host memory, frames:", "cpu, % of one processor:"


def events(records):
    return json.loads(trace_events.dumps(records))["traceEvents"]


def test_every_vm_and_mechanism_has_a_track():
    found = events([made(timeline=LINE), made(preset="all", timeline=LINE)])
    names = {event["args"]["name"] for event in found if event["name"] == "process_name"}
    assert names == {"zipf-150--swap--s1", "zipf-150--all--s1"} and {event["pid"] for event in found} == {1, 2}
    tracks = {event["name"] for event in found if event["ph"] == "C"}
    assert tracks == {MEMORY, "faults per s:", "stall, % of time:", CPU, "VM vm0, pages:"}
    slices = [event for event in found if event["ph"] == "X" and event["pid"] == 1]
    assert [(each["name"], each["ts"], each["dur"]) for each in slices] == [("fill", 0, 2), ("measured", 2, 10.5)]


def test_what_was_gained_is_shown_where_it_was_gained():
    found = [event for event in events([made(timeline=LINE)]) if event["ph"] == "C"]
    of = {name: [(each["ts"], *each["args"].values()) for each in found if each["name"] == name]
          for name in ("faults per s:", "stall, % of time:", CPU, "VM vm0, pages:", MEMORY)}  # fmt: skip
    # 7 in 2 us, nothing in no time, 20 in 10 us, 1 in 0.5 us, and nothing after the end
    assert of["faults per s:"] == [(0, 3_500_000), (2, 0), (2, 2_000_000), (12, 2_000_000), (12.5, 0)]
    assert of["stall, % of time:"] == [(0, 0), (2, 0), (2, 50.0), (12, 100.0), (12.5, 0)]
    assert of[CPU][2] == (2, 25.0)
    assert of["VM vm0, pages:"][-1] == (12.5, 5) and of[MEMORY][0] == (0, 9)


def test_threads_of_a_trace_have_numbers_of_their_own():
    """Perfetto knows a thread by its number alone: one that two processes have would be drawn in one of them."""
    found = events([made(timeline=LINE), made(preset="all", timeline=LINE)])
    assert {(event["pid"], event["tid"]) for event in found} == {(1, 1), (2, 2)}


# ---- commands


@pytest.fixture
def results(tmp_path):
    refused = made(preset="none", status="refused", reason="no room")
    return folder(tmp_path / "run", [made(timeline=LINE), made(scenario="scan", timeline=LINE), refused])


def test_timeline_writes_a_file_or_stdout(results, tmp_path):
    done = run("timeline", results, "-o", tmp_path / "a.json")
    assert done.exit_code == 0 and "2 of 3 cells" in done.stderr and "perfetto" in done.stderr
    assert json.loads((tmp_path / "a.json").read_text())["otherData"]["clock"] == "simulated"
    one = run("timeline", results, "--cell", "scan-*")
    assert one.exit_code == 0 and {event["pid"] for event in json.loads(one.stdout)["traceEvents"]} == {1}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cell", "zipf-150--swep--s1"], "no cell is called zipf-150--swep--s1; did you mean 'zipf-150--swap--s1'"),
        (["--cell", "*--none--*"], "none of 1 cells has a time line"),
        (["-o", "/nowhere/a.json"], "/nowhere/.*cannot be written"),
    ],
)
def test_timeline_says_what_is_wrong(results, words, said):
    with pytest.raises(MemvirtError, match=said):
        CliRunner().invoke(APP, ["timeline", str(results), *words], catch_exceptions=False)


@pytest.mark.parametrize("form", ["hdr", "openmetrics", "bencher"])
def test_export_writes_each_form(results, tmp_path, form):
    if form == "hdr":
        pytest.importorskip("hdrh.log")
    done = run("export", results, "--format", form, "-o", tmp_path / "out")
    assert done.exit_code == 0 and "2 of 3 cells" in done.stderr
    assert (tmp_path / "out").read_text() == run("export", results, "--format", form).stdout


def test_export_names_the_forms_it_knows(results):
    with pytest.raises(ConfigError, match=r"unknown; did you mean 'bencher'\? \(known: hdr, openmetrics, bencher\)"):
        CliRunner().invoke(APP, ["export", str(results), "--format", "benchr"], catch_exceptions=False)
