"""What is handed to a host is the host's own from the check to the use: arrays may change, generators may share them."""

import pickle
import signal
import threading
from contextlib import suppress

import numpy as np
import pytest

import memvirt
from memvirt import border, simulation
from memvirt.errors import ConfigError
from memvirt.inputs import store
from memvirt.inputs.corpus import Corpus
from memvirt.simulation.trace import checked_pages

PAGE = 4096


def scratch_streams(buffer, ops, sizes, rounds=30):
    """Generators that all fill one array, each within its own VM's pages; what each asked for is kept."""
    asked = {name: [] for name in sizes}

    def fill(name, pages):
        draws = np.random.Generator(np.random.PCG64(pages))
        for _ in range(rounds):
            buffer[:] = draws.integers(0, pages, len(buffer))
            asked[name].append(buffer.copy())
            yield buffer, ops

    return {name: fill(name, pages) for name, pages in sizes.items()}, asked


@pytest.mark.parametrize(
    "sizes", [{"small": 256, "large": 1 << 16}, {"a": 512, "b": 512}], ids=["sizes differ", "equal"]
)
def test_streams_that_share_one_array_touch_what_each_asked_for(sizes):
    host = memvirt.Host(memory="64MiB", swap="512MiB", content="fingerprint")
    vms = {name: host.create_vm(name, pages * PAGE) for name, pages in sizes.items()}
    if "a" in sizes:  # each in a part of its own, so that the other's accesses would show
        parts = {"a": (0, 200), "b": (300, 500)}
    buffer, ops = np.zeros(3000, np.uint32), np.ones(3000, np.uint8)
    streams, asked = scratch_streams(buffer, ops, sizes)
    if "a" in sizes:
        streams = {name: shifted(buffer, ops, *parts[name]) for name in sizes}
    outcome = host.run({vms[name]: stream for name, stream in streams.items()})
    assert {done.reason for done in outcome.values()} == {"done"}
    host.check()
    for name, vm in vms.items():
        touched = set(np.unique(np.concatenate(asked[name])).tolist()) if asked[name] else set(range(*parts[name]))
        assert vm.usage()["present_pages"] + vm.usage()["backed_pages"] == len(touched), name


def shifted(buffer, ops, first, last):
    for _ in range(30):
        buffer[:] = np.resize(np.arange(first, last), len(buffer))
        yield buffer, ops


def test_ops_and_sources_are_owned_too():
    """A fill whose source changes afterwards would read beyond the corpus; an op that changes would be none."""
    corpus = np.zeros((3, PAGE), np.uint8)
    corpus[1:] = 7
    host = memvirt.Host(memory="8MiB", corpus=corpus)
    vms = [host.create_vm(name, "1MiB") for name in "ab"]
    pages, ops = np.zeros(2000, np.uint32), np.full(2000, 2, np.uint8)
    sources = np.zeros(2000, np.uint32)

    def fill(source):
        for _ in range(5):
            ops[:], sources[:] = 2, source
            yield pages, ops, sources
            ops[:], sources[:] = 0, 2**31

    host.run({vms[0]: fill(1), vms[1]: fill(2)})
    assert host.counters()["fills"] == 2 * 5 * 2000
    assert [vm.read(0, 1) for vm in vms] == [b"\7", b"\7"]


def test_a_thread_that_writes_to_the_array_of_an_access_harms_nobody():
    host = memvirt.Host(memory="8MiB", content="fingerprint")
    vm = host.create_vm("a", "1MiB")
    pages, ops, going = np.zeros(300_000, np.uint32), np.zeros(300_000, np.uint8), [True]

    def spoil():
        while going[0]:
            pages[:] = 2**31 - 1
            pages[:] = 5

    other = threading.Thread(target=spoil)
    other.start()
    try:
        for _ in range(60):
            pages[:] = 5
            try:
                vm.access(pages, ops)
            except ConfigError as error:
                assert "names page 2147483647, beyond its 256 pages" in str(error)
    finally:
        going[0] = False
        other.join()
    host.check()


def test_a_batch_of_several_pieces_is_refused_before_its_first_access():
    host = memvirt.Host(memory="8MiB", content="fingerprint")
    vm = host.create_vm("a", "1MiB")
    pages = np.zeros(200_000, np.uint32)
    pages[-1] = 256
    with pytest.raises(ConfigError, match="access 199999 names page 256, beyond its 256 pages"):
        vm.access(pages, np.ones(200_000, np.uint8))
    assert host.counters()["writes"] == 0
    pages[-1] = 255
    assert vm.access(pages, np.ones(200_000, np.uint8)) == (200_000, "done")
    assert host.counters()["writes"] == 200_000


def test_page_numbers_may_lie_in_the_array_that_pages_are_read_into():
    """The first page that was read was the next page number: a segmentation fault."""
    host = memvirt.Host(memory="4MiB")
    vm = host.create_vm("a", "2MiB")
    vm.write(0, b"\xfe" * 2 * PAGE)
    out = np.zeros((3, PAGE), np.uint8)
    pages = out.reshape(-1).view(np.uint32)[:3]
    pages[:] = [0, 1, 2]
    assert vm.read_pages(pages, out) is out
    assert [bytes(page) for page in out] == [b"\xfe" * PAGE, b"\xfe" * PAGE, bytes(PAGE)]
    host.check()


def test_a_signal_s_handler_that_writes_to_the_array_of_a_read_harms_nobody():
    host = memvirt.Host(memory="64MiB", swap="64MiB")
    vm = host.create_vm("a", "64MiB")
    numbers = np.arange(vm.pages, dtype=np.uint32)
    pages, out, answered = numbers.copy(), np.zeros((vm.pages, PAGE), np.uint8), []

    def spoil(*_):
        answered.append(True)
        pages[:] = 2**32 - 1

    before = signal.signal(signal.SIGPROF, spoil)
    try:
        for _ in range(5):
            pages[:] = numbers
            signal.setitimer(signal.ITIMER_PROF, 0.01)
            vm.read_pages(pages, out)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    assert answered
    host.check()


@pytest.mark.parametrize(
    "call",
    [
        lambda pages: memvirt.simulate("lru", pages, 100),
        lambda pages: memvirt.simulate("belady", pages, 100),
        lambda pages: memvirt.simulate("clock", pages, capacities=[100, 200]),
        simulation.reuse_distances,
        simulation.distance_counts,
    ],
    ids=["lru", "belady", "curve", "distances", "counts"],
)
def test_a_thread_that_writes_to_a_trace_that_is_simulated_harms_nobody(call):
    pages, going = np.zeros(3_000_000, np.uint32), [True]

    def spoil():
        while going[0]:
            pages[:] = 2**32 - 20
            pages[:] = 5

    other = threading.Thread(target=spoil)
    other.start()
    try:
        for _ in range(20):
            pages[:] = 5
            with suppress(ConfigError):  # where it has been spoilt already
                call(pages)
    finally:
        going[0] = False
        other.join()


def test_a_trace_is_copied_before_it_is_looked_at():
    pages = np.arange(10, dtype=np.uint32)
    own, ids = checked_pages(pages)
    pages[:] = 2**31
    assert own.tolist() == list(range(10)) and ids == 10 and not np.shares_memory(own, pages)


def read_only(array):
    view = array.view()
    view.flags.writeable = False
    return view


@pytest.mark.parametrize("content", ["bytes", "fingerprint"])
@pytest.mark.parametrize(
    "given",
    [
        np.asarray,
        read_only,
        lambda array: read_only(array)[:],
        lambda array: np.frombuffer(memoryview(array).cast("B").toreadonly(), np.uint8).reshape(2, PAGE),
    ],
    ids=["writable", "read-only view", "view of a view", "read-only memoryview"],
)
def test_a_corpus_that_is_changed_afterwards_is_not_what_pages_are_filled_from(content, given):
    corpus = np.zeros((2, PAGE), np.uint8)
    corpus[1] = np.arange(PAGE) % 251
    host = memvirt.Host(memory="4MiB", corpus=given(corpus), content=content)
    vm = host.create_vm("a", "1MiB")
    vm.access([0], [2], [1])
    before = vm.read_pages([0])
    corpus[1] = 9
    vm.access([1], [2], [1])
    assert np.array_equal(vm.read_pages([1]), before)


@pytest.mark.parametrize(
    ("ops", "said"),
    [
        (np.array([256]), "ops[0] is 256"),
        ([-1], "ops[0] is -1"),
        (np.array([np.nan]), "ops[0] is nan"),
        ([0.7], "ops[0] is 0.7"),
        ([[1]], "2 dimensions"),
        (["write"], "an array of <U5"),
        ([None], "an array of object"),
        (1, "0 dimensions"),
    ],
)
def test_ops_that_are_none_are_refused_in_words(ops, said):
    host = memvirt.Host(memory="4MiB")
    vm = host.create_vm("a", "1MiB")
    with pytest.raises(ConfigError) as error:
        vm.access([1], ops)
    assert said in str(error.value)
    with pytest.raises(ConfigError):
        host.run({vm: [([1], ops)]})
    assert host.counters()["writes"] == host.counters()["reads"] == 0


def test_a_corpus_of_a_file_is_not_copied_by_each_host(tmp_path):
    corpus = Corpus.of([("words", np.full((3, PAGE), 7, np.uint8))])
    store.save(corpus, tmp_path / "c.mvc")
    sent = pickle.loads(pickle.dumps(corpus))
    for given in (corpus, sent, store.load(tmp_path / "c.mvc"), store.load(tmp_path / "c.mvc", mapped=True)):
        assert np.shares_memory(border.corpus_pages(given), given.pages)


@pytest.mark.parametrize(
    "pages", [[1.5], ["1"], np.array([1], "m8[s]"), np.array([1], "M8[s]"), [True], [-1], [1 << 32]]
)
def test_page_numbers_that_are_none_are_refused_in_words(pages):
    host = memvirt.Host(memory="4MiB")
    vm = host.create_vm("a", "1MiB")
    with pytest.raises(ConfigError, match="page numbers: "):
        vm.access(pages, [1])
    assert host.counters()["writes"] == 0


@pytest.mark.parametrize("ops", [[True], [1], [1.0], np.ones(1), np.array([1], np.int64), np.array([1], ">u2")])
def test_ops_of_any_whole_kind_are_taken(ops):
    host = memvirt.Host(memory="4MiB")
    vm = host.create_vm("a", "1MiB")
    assert vm.access([1], ops).done == 1
    assert host.counters()["writes"] == 1
