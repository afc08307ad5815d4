"""What no single name stands for: the formats of files, a decider's input and answer, exit codes, variables, tags.

Formats of suites and presets are read off the models that check them, so that no key is missing here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from memvirt.cli.catalog_entry import Detail, Entry

if TYPE_CHECKING:
    from pydantic import BaseModel

KEYS = ("key", "default", "meaning")
FIELDS = ("field", "unit", "meaning")

SNAPSHOT: Mapping[str, tuple[str, str]] = {
    "now_ns": ("ns", "simulated time"),
    "interval_ns": ("ns", "since the previous decision"),
    "total_pages": ("pages", "host memory"),
    "free_pages": ("pages", "free host frames"),
    "low_pages": ("pages", "watermark: below it the background reclaimer wakes"),
    "high_pages": ("pages", "watermark: up to it the background reclaimer works"),
    "stall_some_ns": ("ns", "time in which at least one VM stalled for memory, since the previous decision"),
    "swap_pages": ("pages", "slots of all swap areas"),
    "swap_used_pages": ("pages", "slots in use"),
    "swapped_out_pages": ("pages", "written to swap since the host was made"),
    "reclaimed_pages": ("pages", "taken by reclaim_pages since the host was made"),
    "reclaim_ns": ("ns", "simulated processor time that this took"),
    "wanted_pages": ("pages", "frames that VMs lack which wait to be admitted (setting admission_wait)"),
    "vms": ("VmView", "the VMs, in the order in which they were created; fields below"),
    "memo": ("name -> tuple of integers, or bytes", "what the decider's last answer held in Targets.memo"),
}
VM_VIEW: Mapping[str, tuple[str, str]] = {
    "name": ("", "the VM's name; targets use it"),
    "configured_pages": ("pages", "what the guest was promised"),
    "held_pages": ("pages", "host frames charged to it"),
    "balloon_pages": ("pages", "what its balloon holds now"),
    "active_pages": ("pages", "estimate of the pages it uses, from accessed marks"),
    "shares": ("", "relative weight; 1000 unless set"),
    "reservation_pages": ("pages", "host memory it is guaranteed"),
    "limit_pages": ("pages", "most host memory it gets; None: no limit"),
    "guest_free_pages": ("pages", "free inside the guest, by its own account"),
    "guest_cache_pages": ("pages", "page cache inside the guest"),
    "stall_some_ns": ("ns", "time it stalled for memory in the last interval"),
    "stall_full_ns": ("ns", "the same; a VM is one task, so both are equal"),
    "stall_avg10": ("1/100 %", "share of time it stalled, as PSI's average of 10 s"),
    "stall_avg60": ("1/100 %", "the same of 60 s"),
    "balloonable": ("bool", "False: it has no guest, so only the host can reclaim from it"),
    "cold_ages": ("ColdAge", "(age_ns, cold_pages, promoted_pages) by ascending age: pages idle for at least that long, and "
                  "those used again after it in the last interval"),
    "size_pages": ("pages", "what its guest may use now: configured_pages less balloon_pages"),
    "balloon_bounds()": ("pages", "(smallest, largest) balloon that keeps it between its reservation and its limit"),
}  # fmt: skip
TARGETS: Mapping[str, tuple[str, str]] = {
    "balloon_pages": ("name -> pages", "size the balloon should have"),
    "reclaim_pages": ("name -> pages", "frames that the host should take itself, coldest first"),
    "scan_pages": ("pages", "looked at per wake-up of the sharing scanner; 0 stops it; None leaves it alone"),
    "scan_sleep_ns": ("ns", "sleep of the sharing scanner; None leaves it alone"),
    "block_above_pages": (
        "name -> pages",
        "a VM does not run while it holds more than that, or than is reserved for it; who is not named runs",
    ),
    "wake_below_pages": (
        "pages",
        "free host frames below which to ask again at the next turn; 0: at the interval alone. At most 16 times in an "
        "interval, which goes on as it was",
    ),
    "state": (
        "text",
        "what the host's state is called: high, clear, soft, hard or low; None: no name. It is recorded (time "
        "line, state_percent.NAME), and changes nothing",
    ),
    "memo": ("name -> tuple of integers, or bytes", "state for the next call; the only state a decider may have"),
}

DECIDER = """\
A decider is a class with one pure method. Write it in a file: memvirt run SUITE --policy mine.py:Mine

That is a column `Mine` beside the suite's: VMs with guests, and swap as the safety net. --set balloon=mine.py:Mine puts it
in every column, and a preset of your own, or a suite's [[variants]], in whatever host it is to drive.

    from memvirt.policies import Snapshot, Targets

    class Mine:
        '''Every VM gives back a tenth while the host is below its low watermark.'''

        def __init__(self, percent: int = 10, interval_ns: int = 1_000_000_000):
            self.percent, self.interval_ns = percent, interval_ns

        def decide(self, snapshot: Snapshot) -> Targets:
            if snapshot.free_pages >= snapshot.low_pages:
                return Targets()
            wanted = {}
            for vm in snapshot.vms:
                smallest, largest = vm.balloon_bounds()
                more = vm.balloon_pages + vm.configured_pages * self.percent // 100
                wanted[vm.name] = max(smallest, min(more, largest))
            return Targets(balloon_pages=wanted)

interval_ns says how often the host asks, in nanoseconds of simulated time. The arguments of __init__ are its options:
--set decider_options.percent=20. An option of type Percent or Positive (from memvirt.policies) is held to that. Equal
snapshots must give equal targets (it is asked twice now and then, to see that they do); what it has to remember goes into
Targets.memo. Its file is part of the record, by SHA-256.

Sizes are pages of 4 KiB, times nanoseconds. Targets name VMs of the snapshot that is answered; a balloon or a reclaim of
more than a VM has beyond its reservation is cut to that, and counted (targets_clipped). A decider that raises, answers
what cannot be, or has not answered after 10 seconds of this machine's clock (time_limit_s of the class) ends its cell:
the record says which decider, at which decision and simulated time, and why. vms[].cold_ages are made when they are looked
at, which for many VMs takes longer than all else of a decision; wants_ages = False in the class leaves them out."""

TAGS = (
    ("verified", "read in the program or paper that the source names"),
    ("verified-2", "from a second source that quotes the first"),
    ("unverified", "stated somewhere, found nowhere: a parameter, not a fact"),
    ("chosen", "chosen by memvirt, for the reason that the source gives"),
)
FRAMES_HEADS = ("frame", "a row is", "columns after the keys")
FRAMES = (
    ("cells", "a cell", "how it ended, what it was made with, and every number that follows from its counts"),
    ("counters", "a number", "part (counters, sharing, cpu_ns, usage, stores, fragmentation), metric, unit, value"),
    ("histograms", "a bucket", "fault, sim_ns (its lower bound), count: every fault of the measured phase"),
    ("samples", "a moment", "phase, sim_ns, then host metrics: states, and counts gained since the row before"),
    ("vms", "a VM at a moment", "phase, sim_ns, vm, held_pages, active_pages, balloon_pages"),
    ("aging", "a cycle", "of scenarios that age: what the host's memory looked like after it"),
)
IN_A_BUNDLE = (
    ("README.md", "what it is, and how to check it in a minute"),
    ("run/", "the results folder as it is: run.json, records, timings, your own claims"),
    ("settings/", "the suite's file, and every preset and scenario with all defaults by value"),
    ("inputs.json", "what went in, by hash; inputs/ has the pages themselves if --with-pages asked for them"),
    ("environment.json", "versions, commit and machine"),
    ("CLAIMS.toml", "what the run is expected to show"),
    ("tables/, figures/", "made from run/ and nothing else, and made again by verify; figures with specifications"),
    ("commands.txt", "how all of it is made"),
    ("SHA256SUMS", "of all these; sha256sum -c reads it"),
    ("ro-crate-metadata.json", "the same as an RO-Crate, after the profile Process Run Crate"),
)
EXIT_CODES = (
    ("0", "done"),
    ("1", "some cells failed, or the executor was lost, or a record or the output could not be written"),
    ("2", "usage or configuration: nothing was run; capacity: every size kept the objectives, so nothing was found"),
    ("3", "compare --threshold: a regression beyond the threshold"),
    (
        "4",
        "a claim failed; verify: anything of a bundle did; validate: a row differs, and its reason is not "
        "known; capacity: not even the fewest VMs meet the objectives",
    ),
    ("124", "the time of --timeout was over; everything finished is kept"),
    ("130", "interrupted by Ctrl-C, SIGTERM or SIGHUP; everything finished is kept"),
)
VARIABLES_HEADS = ("variable", "meaning", "unless set")
ENVIRONMENT = (
    ("MEMVIRT_CACHE", "folder of captured corpora", "$XDG_CACHE_HOME/memvirt, or ~/.cache/memvirt"),
    ("MEMVIRT_SWAP_DIR", "folder of swap files; a real disk for --tier full", "the system's temporary folder"),
    ("MEMVIRT_STATE_DIR", "folder where validate writes down what it changes, for restore", "/var/lib/memvirt"),
    ("COLUMNS", "width of tables and lists", "the terminal's, or 100"),
)
RULES_HEADS = ("setting", "meaning")
RULES = (
    ("on_exhausted=stop", "the access that finds no frame ends, and says how many were done and why"),
    ("on_exhausted=wait", "the VM sleeps and tries again until a frame is free, or nothing can change any more"),
    ("on_exhausted=kill", "a VM is killed by rule, and the access goes on"),
    ("provisioning=thin", "a frame is given at the first touch of a page"),
    ("provisioning=thick", "all frames are given when the VM is created"),
    ("provisioning=thin-huge", "2 MiB are given at the first touch, where an aligned block is free"),
    (
        "provisioning=on-write",
        "a frame is given at the first write; a read before that maps one frame of zeros (do_anonymous_page, mm/memory.c)",
    ),
    ("commit=always", "every VM is admitted"),
    ("commit=heuristic", "a VM is refused that is larger than all of the host's memory and swap"),
    ("commit=nominal", "VMs are refused whose sum is larger than the host's memory and swap"),
    ("commit=strict", "VMs are refused that could not all be filled: tables, records, watermarks and the like count"),
    (
        "watermarks={min,low,high}",
        "in free frames: allocations leave min, reclaim wakes below low and works up to high",
    ),
)

FILES_HEADS = ("file", "what it is")
FILES = (
    ("run.json", "what was asked for, every cell's name and hash, inputs, versions, how the run is shown"),
    ("cells/SCENARIO--PRESET--sSEED.json", "a record, written whole when its cell ends: one line a part, keys sorted"),
    ("cells/...--baseline.json", "the same, of what columns are held against"),
    ("run.jsonl.gz", "with --pack, in place of all of these: see above"),
    ("timings/*.json", "of tier full: ordinary pyperf files"),
    ("CLAIMS.toml", "claims of your own, in place of the suite's"),
)
WAYS_HEADS = ("option", "cells run", "if a worker is lost", "if the run is lost")
WAYS = (
    ("--jobs 1", "one after the other, in this process; wall times are kept", "", "--resume"),
    ("--jobs N", "N at once, in processes of this machine", "its cell has failed; --resume runs it again", "--resume"),
    (
        "--shard I/N",
        "the part of them that the hash of their names gives; without wall times",
        "",
        "--resume, each part by itself",
    ),
    (
        "--executor dask://HOST:PORT",
        "in the workers of a dask scheduler: pip install 'memvirt[cluster]'",
        "the scheduler gives its cells to another",
        "a lost scheduler ends the run, exit code 1; --resume",
    ),
    (
        "--executor MODULE:CALLABLE",
        "in whatever executor CALLABLE() gives: one of mpi4py, executorlib, parsl; or of your own",
        "it is tried again, four times in all, where the executor says so",
        "--resume",
    ),
)


def entries() -> list[Entry]:
    """All topics, in the order in which a newcomer meets them."""
    return [
        _topic("suite-file", "the format of a suite", _SUITE, KEYS, _suite_rows),
        _topic("preset-file", "the format of a preset", _PRESET, KEYS, _preset_rows),
        _topic("claims-file", "what a run is expected to show", _CLAIMS, KEYS, _claims_rows),
        _topic("decider-file", "a policy of your own, in 20 lines", DECIDER),
        _topic("snapshot", "what a decider is given", "From memvirt.policies.", FIELDS, lambda: _rows(SNAPSHOT, VM_VIEW)),
        _topic("targets", "what a decider answers", "From memvirt.policies.", FIELDS, lambda: _rows(TARGETS)),
        _topic("tags", "how well a source of a constant is known", "", ("tag", "meaning"), lambda: TAGS),
        _topic("tiers", "how much of a suite is run", _TIERS),
        _topic("executors", "where cells are run, and what is promised of each way", _EXECUTORS, WAYS_HEADS, lambda: WAYS),
        _topic("results-folder", "the files of a run, and the format of run.jsonl.gz", _FOLDER, FILES_HEADS, lambda: FILES),
        _topic("mechanics", "what on_exhausted, provisioning, commit and watermarks do", "", RULES_HEADS, lambda: RULES),
        _topic("frames", "results in a notebook", _FRAMES, FRAMES_HEADS, lambda: FRAMES),
        _topic("bundle", "a run as an archive that proves itself", _BUNDLE, ("file", "holds"), lambda: IN_A_BUNDLE),
        _topic("exit-codes", "how a command ends", "", ("code", "meaning"), lambda: EXIT_CODES),
        _topic("environment", "variables that memvirt reads", "", VARIABLES_HEADS, lambda: ENVIRONMENT),
    ]  # fmt: skip


def _topic(
    name: str,
    summary: str,
    text: str,
    heads: tuple[str, ...] = (),
    rows: Callable[[], Iterable[tuple[str, ...]]] = tuple,
) -> Entry:
    return Entry(name, summary, lambda: Detail(text, heads, list(rows())))


_FRAMES = """\
memvirt.read_results(DIR), or of several folders, gives pandas frames:

    found = memvirt.read_results("results/quick")
    found.cells.pivot_table("slowdown", ["scenario", "ratio"], "preset", observed=True)
    swap = found.samples.query("scenario == 'zipf' and ratio == 2 and preset == 'swap' and role == 'column'")
    swap.plot("sim_ns", "usage.free")

Each begins with the keys run, suite, scenario, ratio, preset, role, seed. found.units has the unit of every metric,
`memvirt describe METRIC` its meaning. Names are categories, counts int64, ratios float64 with NaN where there is none."""
_BUNDLE = """\
`memvirt bundle DIR -o NAME.crate.zip` makes it, `memvirt verify NAME.crate.zip` checks it. Equal runs give equal bundles,
byte for byte. Who verifies need not trust it: nothing is unpacked that leaves the archive or is larger than it may be, and
no program that it names is run."""
_SUITE = """\
A TOML file; those that come with memvirt lie in memvirt/experiment/suites. `memvirt run mine.toml` runs it.
Every scenario runs at every ratio, under every preset and variant, with every seed. Files that a scenario's workloads and
loads name are looked for from where the suite's file lies; deciders and presets from where memvirt is started."""
_CLAIMS = """\
A TOML file called CLAIMS.toml in a results folder. It takes the place of the claims that the suite of the run states in
its own file, under the same keys. Tables say which of them held.

    schema = 1

    [[claims]]
    id = "swap-is-slower"
    statement = "At 1.50 swap takes at least twice the time of zcache."
    cells = ["zipf-150--swap"]
    metric = "slowdown"
    at_least = 2
    relative_to = "zcache"
    minutes = 1"""
_PRESET = """\
A TOML file; those that come with memvirt lie in memvirt/settings/presets. `memvirt run SUITE --preset mine.toml` uses it,
`memvirt explain mine.toml` shows every setting with its source."""
_EXECUTORS = """\
Records are the same, digit for digit, whichever way a cell is run. A record is written when its cell ends, by the process
that was started, so the folder holds all that is known of a run. Elsewhere than in this process only simulated metrics
are kept. A worker of an executor takes a cell only if its versions of memvirt, NumPy and LZ4, the commit of its source
and its codecs are those of the run; the corpus is sent once to each machine that has it not, into its cache folder
(MEMVIRT_CACHE). Files that a suite names (traces, deciders) must be where they are on a file system that is shared."""
_FOLDER = """\
A folder holds one run. The program locks it while it writes; all of it is plain JSON.

run.jsonl.gz is a row of gzip members, each one line of JSON that ends in a newline: run.json first, then a record a cell,
in the order in which they ended. The header of a member names the file that it would be. Of two records of a cell the
later counts. `zcat run.jsonl.gz` prints all lines. A member is appended at once and flushed to the device: after a crash
the last one may be torn, which is no record, and --resume cuts it off. Every member has gzip's checksum; where one is
damaged, --resume keeps those before and behind it and runs its cell again. Table, merge, compare and all other commands
read both forms; a run that is resumed goes on in the form that it has."""
_TIERS = """\
smoke  for tests: a quarter of the memory or less. Its numbers are no measurement: small pools do not fill their size
       classes, and short phases end before policies act.
quick  a first look: the suite as its file has it, under five seeds where its cells lie apart over them, else one.
full   for numbers that are quoted: five seeds where a suite says so, and each cell of the first seed again in 20
       processes of its own under pyperf, one at a time; hours."""


def _rows(*parts: Mapping[str, tuple[str, str]]) -> list[tuple[str, ...]]:
    prefixes = ("", "vms[].")
    return [(prefix + name, *row) for prefix, part in zip(prefixes, parts, strict=False) for name, row in part.items()]


def _suite_rows() -> Iterator[tuple[str, ...]]:
    from memvirt.experiment.fleet_spec import AgingSpec, FleetSpec, Sizes
    from memvirt.experiment.life_spec import BootTimes, Event, Files, Group, GroupContent, Lifetime, Time
    from memvirt.experiment.living import Living
    from memvirt.experiment.pace import Pace
    from memvirt.experiment.scenario import Scenario, Tier
    from memvirt.experiment.simulated import Simulated, TraceSpec
    from memvirt.experiment.suite import Suite, Variant
    from memvirt.results.claims import Claim
    from memvirt.workloads.instances import Instances
    from memvirt.workloads.load import Bursts, Day, Growth, Load, Part, Requests, Shrinking
    from memvirt.workloads.recorded import Recording

    yield from _keys(Suite, "")
    for prefix, model in (
        ("host.", Sizes),
        ("variants[].", Variant),
        ("tiers.NAME.", Tier),
        ("claims[].", Claim),
        ("scenarios[].", Scenario),
        ("scenarios[].fleet.", FleetSpec),
        ("scenarios[].pace.", Pace),
        ("scenarios[].aging.", AgingSpec),
    ):
        yield from _keys(model, prefix)
    own = ("simulate", "content", "time", "loads", "groups", "events")
    for scenario in (Living, Simulated):
        yield from (row for row in _keys(scenario, "scenarios[].") if row[0].rpartition(".")[2] in own)
    of_life: tuple[tuple[str, type[BaseModel]], ...] = (
        ("scenarios[].time.", Time),
        ("scenarios[].loads.NAME.", Load),
        ("scenarios[].loads.NAME.parts[].", Part),
        ("scenarios[].loads.NAME.trace.", Recording),
        ("scenarios[].loads.NAME.day.", Day),
        ("scenarios[].loads.NAME.bursts.", Bursts),
        ("scenarios[].loads.NAME.grow.", Growth),
        ("scenarios[].loads.NAME.shrink.", Shrinking),
        ("scenarios[].loads.NAME.instances.", Instances),
        ("scenarios[].loads.NAME.requests.", Requests),
        ("scenarios[].groups[].", Group),
        ("scenarios[].groups[].content.", GroupContent),
        ("scenarios[].groups[].files.", Files),
        ("scenarios[].groups[].boot.", BootTimes),
        ("scenarios[].groups[].lifetime.", Lifetime),
        ("scenarios[].events[].", Event),
    )
    for prefix, table in of_life:
        yield from _keys(table, prefix)
    yield from _keys(TraceSpec, "scenarios[].simulate.")


def _claims_rows() -> Iterator[tuple[str, ...]]:
    from memvirt.results.claims import Claim, Claims

    yield from _keys(Claims, "")
    yield from _keys(Claim, "claims[].")


def _preset_rows() -> Iterator[tuple[str, ...]]:
    from memvirt.settings.presets import PresetConfig, VmSettings
    from memvirt.settings.sources import SourceNote

    yield from _keys(PresetConfig, "")
    yield from _keys(VmSettings, "vm.")
    yield from _keys(SourceNote, "source.SETTING.")


def _keys(model: "type[BaseModel]", prefix: str) -> Iterator[tuple[str, ...]]:
    """A row per key of a model: name, default, meaning."""
    for name, field in model.model_fields.items():
        if field.is_required():
            default = "required"
        else:
            default = (
                "none"
                if field.default in (None, [], {}) or hasattr(type(field.default), "model_fields")
                else str(field.default)
            )
        yield prefix + (field.alias or name), default, field.description or ""
