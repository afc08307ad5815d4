"""The compressed pool against zsmalloc's published tables and against a plain-Python zsmalloc, decision by decision."""

import random

import pytest

from memvirt.engine.content.content import Bytes
from memvirt.engine.content.fingerprints import Fingerprints
from memvirt.engine.memory.frames import Frames
from memvirt.engine.stores.zpool import Zpool
from memvirt.engine.stores.zspage_report import accounts, classes_report, layout
from memvirt.engine.testing.stores import ZpoolProbe, size_classes
from memvirt.errors import ConfigError, InvariantError
from oracle.zsmalloc_model import PAGE, Model, classes_of

OK, NO_FRAME, POOL_FULL, REJECTED, NONE = 0, 1, 3, 4, 0xFFFFFFFF
HOST = 200


def make(limit=HOST, content=Bytes, nr_frames=HOST, **settings):
    frames = Frames(content(nr_frames))
    return frames, ZpoolProbe(Zpool(frames, limit, **settings))


def store(pool, *lengths):
    """Stores an object of each length, whose owners are 0, 1, ...; their handles."""
    handles = []
    for i, length in enumerate(lengths):
        outcome, handle = pool.put(bytes([i & 0xFF]) * length, owner=i)
        assert outcome == OK
        handles.append(handle)
    return handles


def compact(pool, handles):
    """Compacts, and notes the new handles by owner; frames gained."""
    frames = pool.nr_pool_frames
    for owner, handle in pool.compact():
        handles[owner] = handle
    return frames - pool.nr_pool_frames


# ---- size classes ----


@pytest.mark.parametrize(
    "rule, counts",
    [("waste", {4: 69, 6: 94, 8: 119, 16: 192}), ("used", {4: 69, 6: 93, 8: 123, 16: 191})],
)
def test_number_of_classes_as_published(rule, counts):
    assert {chain: len(size_classes(chain, rule)) for chain in counts} == counts


@pytest.mark.parametrize("rule", ["waste", "used"])
@pytest.mark.parametrize("chain, watermark, huge", [(4, 3264, 3280), (8, 3632, 3648), (16, 3840, 3856)])
def test_huge_classes_as_published(rule, chain, watermark, huge):
    classes = size_classes(chain, rule)
    assert classes[-1] == (PAGE, 1, 1)
    assert classes[-2][0] == watermark
    _, pool = make(chain=chain, chain_rule=rule)
    store(pool, huge - 15)
    assert layout(pool.zspages) == [(PAGE, layout(pool.zspages)[0][1], [0])]
    store(pool, huge - 16)
    assert [size for size, _, _ in layout(pool.zspages)] == [watermark, PAGE]


@pytest.mark.parametrize("rule", ["waste", "used"])
@pytest.mark.parametrize("chain", range(1, 17))
def test_classes_match_the_model(rule, chain):
    classes = size_classes(chain, rule)
    assert classes == sorted(set(classes_of(chain, rule).values()))
    assert max(objects for _, _, objects in classes) <= 256, "a slot's number has 8 bits"


def test_first_rows_of_the_documented_table():
    """Documentation/mm/zsmalloc.rst: size 3264 of a chain of 4 holds 5 objects, 208 of 16 frames fills it evenly."""
    assert (3264, 4, 5) in size_classes(4, "used")
    assert size_classes(1) == sorted(set(classes_of(1, "waste").values()))
    assert all(frames == 1 for _, frames, _ in size_classes(1))


# ---- placement ----


def test_slots_lie_side_by_side_across_frames():
    frames, pool = make()
    handles = store(pool, *[3264] * 5)
    ((size, chain, owners),) = layout(pool.zspages)
    assert (size, len(chain), owners) == (3264, 4, [0, 1, 2, 3, 4])
    assert [pool.get(handle) for handle in handles] == [bytes([i]) * 3264 for i in range(5)]
    assert pool.nr_pool_frames == frames.usage()["zspage"] == 4


def test_every_length_comes_back():
    _, pool = make(nr_frames=6000, limit=6000)
    rng = random.Random(5)
    kept = {}
    for length in rng.sample(range(1, PAGE + 1), PAGE):
        payload = rng.randbytes(length)
        outcome, handle = pool.put(payload)
        assert outcome == OK
        kept[handle] = payload
    pool.check()
    assert all(pool.get(handle) == payload for handle, payload in kept.items())
    assert pool.stored_bytes == PAGE * (PAGE + 1) // 2


@pytest.mark.parametrize("room", range(7))
def test_a_chain_comes_whole_or_not_at_all(room):
    """3504 bytes with chains of up to 6: 6 frames. Fails at each of the six takes, then does not."""
    frames, pool = make(chain=6)
    pool.free(store(pool, 10)[0])  # there is room in the tables
    before = frames.usage()
    outcome, handle = pool.put(b"x" * 3504, reserve=before["free"] - room)
    assert outcome == (OK if room == 6 else NO_FRAME)
    assert pool.stats()["reject_no_frame"] == (room < 6)
    if room < 6:
        assert handle is None and frames.usage() == before
    pool.check()
    frames.check()


def test_the_last_object_takes_its_frames_with_it():
    frames, pool = make()
    handles = store(pool, 1000, 1000, 60, 4096)
    for handle in handles:
        assert pool.nr_pool_frames == frames.usage()["zspage"] > 0
        pool.free(handle)
    assert pool.nr_pool_frames == frames.usage()["zspage"] == pool.nr_objects == pool.stored_bytes == 0
    pool.check()


# ---- limits and reasons ----


def test_the_pool_stays_closed_until_it_is_down_to_the_accept_threshold():
    _, pool = make(limit=20, accept_percent=90)
    handles = store(pool, *[PAGE] * 20)
    assert not pool.full
    assert pool.put(b"x")[0] == POOL_FULL and pool.full
    assert pool.put(b"x")[0] == POOL_FULL and pool.full
    pool.free(handles.pop())
    assert pool.nr_pool_frames == 19
    assert pool.put(b"x")[0] == POOL_FULL
    pool.free(handles.pop())
    assert pool.nr_pool_frames == 18 == pool.accept_frames
    assert pool.put(b"x" * PAGE)[0] == OK and not pool.full
    assert pool.put(b"x" * PAGE)[0] == OK
    stats = pool.stats()
    assert (stats["pool_limit_hits"], stats["reject_pool_limit"], stats["reject_hysteresis"]) == (1, 2, 1)


def test_an_open_pool_passes_its_limit_by_one_chain_at_most():
    _, pool = make(limit=3, chain=16)
    assert pool.put(b"x" * 3840)[0] == OK
    assert pool.nr_pool_frames == 15
    assert pool.put(b"x" * 3840)[0] == POOL_FULL, "even with room in a zspage, as zswap tests first"


def test_every_other_reason():
    _, pool = make(reject_above=3000)
    assert pool.put(b"x" * 3001) == (REJECTED, None)
    assert pool.stats()["reject_too_big"] == 1
    _, none = make(limit=0)
    assert none.put(b"x") == (POOL_FULL, None)


@pytest.mark.parametrize("content", [Bytes, Fingerprints])
def test_pages_as_they_are_come_in_whatever_the_limit_of_length(content):
    def put(pool, length):
        return pool.put(b"x" * (length if content is Bytes else 8), length)

    _, pool = make(content=content, reject_above=3000, keep_raw=True)
    assert put(pool, 3001) == (REJECTED, None) and put(pool, 3000)[0] == OK
    outcome, handle = put(pool, PAGE)
    stats = pool.stats()
    assert (outcome, stats["raw_objects"], stats["stored_raw"], stats["reject_too_big"]) == (OK, 1, 1, 1)
    pool.check()
    pool.free(handle)
    assert pool.stats()["raw_objects"] == 0 and pool.stats()["stored_raw"] == 1
    pool.check()
    _, full = make(content=content, limit=1, keep_raw=True)
    assert put(full, PAGE)[0] == OK and put(full, PAGE) == (POOL_FULL, None), "the limit of frames holds for them, too"


@pytest.mark.parametrize("chain", [1, 8, 16])
@pytest.mark.parametrize("length", [1, 30, 31, 32, 100, 2048, 2049, 2900, 3265, PAGE - 2, PAGE - 1, PAGE])
def test_a_flipped_bit_in_an_object_changes_no_length(length, chain):
    """One of its own is found by whoever has its checksum; one of the sixteen that keep its length is put right."""
    _, pool = make(chain=chain)
    payload = bytes(range(1, 251)) * 17
    handle = pool.put(payload[:length])[1]
    other = pool.put(payload[1 : length + 1])[1]
    for bit in (0, 8 * length - 1):
        assert pool.spoil(handle, bit)
        assert len(pool.get(handle)) == length
        assert pool.get(handle) != payload[:length]
        pool.spoil(handle, bit)
    for bit in range(16):
        if not pool.spoil(handle, 8 * length + bit):
            assert bit == 0, "an object that fills its slot but for a byte has its length in the cell"
            break
        assert pool.get(handle) == payload[:length]
        pool.check()
        pool.spoil(handle, 8 * length + bit)
    if pool.spoil(handle, 8 * length):
        pool.spoil(handle, 8 * length + 1)  # two are more than is put right: a wrong length, but within the slot
    assert 1 <= len(pool.get(handle)) <= PAGE
    assert pool.get(other) == payload[1 : length + 1]


@pytest.mark.parametrize("content", [Bytes, Fingerprints])
@pytest.mark.parametrize("aged, words", [(False, 3 + 1 + 4), (True, 3 + 1 + 3 * 4)])
def test_handles_run_out_with_the_words_of_records(content, aged, words):
    """Chains of one frame: four slots of 1024."""
    frames, pool = make(chain=1, content=content, aged=aged, max_words=16 + 2 * words - 1)

    def put(length):
        return pool.put(b"x" * (length if content is Bytes else 8), length)

    handles = [put(1024)[1] for _ in range(4)]
    before = frames.usage()
    assert put(1024) == (POOL_FULL, None) and pool.stats()["reject_no_handle"] == 1
    assert frames.usage() == before and not pool.full
    for handle in handles:
        pool.free(handle)
    assert [put(1024)[1] for _ in range(4)] == handles
    assert put(100) == (POOL_FULL, None), "a record serves its class for ever"
    outcomes = [put(PAGE)[0] for _ in range(3)]
    assert outcomes == ([OK, OK, POOL_FULL] if aged else [OK, POOL_FULL, POOL_FULL]), "5 or 7 words each"
    pool.check()
    frames.check()


@pytest.mark.parametrize(
    "setting",
    [
        {"limit": HOST + 1},
        {"limit": -1},
        {"accept_percent": 101},
        {"accept_percent": -1},
        {"chain": 0},
        {"chain": 17},
        {"chain_rule": "best"},
        {"reject_above": 0},
        {"reject_above": 4097},
        {"max_words": -1},
        {"max_words": 2**29 + 1},
    ],
)
def test_impossible_settings_are_refused(setting):
    with pytest.raises(ConfigError, match=r"must be"):
        make(**setting)


def test_misuse_raises():
    frames, pool = make()
    (handle,) = store(pool, 100)
    pool.free(handle)
    for misuse in (pool.free, pool.get, pool.rotate, pool.was_loaded):
        for dead in (handle, 7, NONE):
            with pytest.raises(InvariantError, match=f"handle {dead} "):
                misuse(dead)
    for payload, length in ((b"", None), (b"x" * 4097, None), (b"x" * 8, 100)):
        with pytest.raises(InvariantError, match="store of"):
            pool.put(payload, length)
    with pytest.raises(InvariantError, match="belongs to no zspage"):
        pool.move_frame(HOST - 1, 0)
    pool.check()
    frames.check()


@pytest.mark.parametrize("content", [Bytes, Fingerprints])
@pytest.mark.parametrize("aged", [False, True])
def test_no_other_number_is_a_handle(content, aged):
    _, pool = make(content=content, aged=aged)
    handles = [pool.put(b"x" * (n if content is Bytes else 8), n, owner=n)[1] for n in (4096, 100, 2000, 100, 700, 100)]
    for dead in (handles.pop(0), handles.pop(1)):
        pool.free(dead)
    for number in [*range(pool.metadata_bytes() // 4 + 50), 2**28, 2**29, 2**31, NONE]:
        if number in handles:
            assert len(pool.get(number)) in (100, 700, 2000, 8)
            continue
        with pytest.raises(InvariantError, match=f"handle {number} "):
            pool.get(number)
    pool.check()


@pytest.mark.parametrize("content", [Bytes, Fingerprints])
def test_where_nothing_was_stored_no_number_is_a_handle(content):
    """Not in a pool without records, nor in a record whose frames were refused: what a cell holds at first is no owner."""
    frames, pool = make(chain=6, content=content)
    numbers = [*range(40), NONE]
    for _ in range(2):
        for number in numbers:
            for misuse in (pool.free, pool.get, pool.rotate):
                with pytest.raises(InvariantError, match=f"handle {number} "):
                    misuse(number)
        pool.check()
        payload = b"x" * (3504 if content is Bytes else 8)
        assert pool.put(payload, 3504, reserve=frames.usage()["free"] - 4) == (NO_FRAME, None)
        assert pool.metadata_bytes() > 0 == pool.nr_pool_frames
    assert pool.put(payload, 3504)[0] == OK
    pool.check()


def test_an_owner_has_28_bits():
    """One more would be the mark by which a record is found."""
    _, pool = make()
    outcome, handle = pool.put(b"x" * 100, owner=2**28 - 1)
    assert outcome == OK and pool.get(handle) == b"x" * 100
    for owner in (2**28, 2**31, 2**32 - 1):
        with pytest.raises(InvariantError, match="owner"):
            pool.put(b"x" * 100, owner=owner)
    pool.check()


def test_a_pool_without_order_needs_no_room_for_it():
    pools = [make(aged=aged)[1] for aged in (True, False)]
    for pool in pools:
        store(pool, *[60] * 3000)
    aged, plain = pools
    assert 2.5 * plain.metadata_bytes() < aged.metadata_bytes()
    assert plain.oldest() == NONE != aged.oldest()
    (handle,) = store(plain, 60)
    with pytest.raises(InvariantError, match="no order"):
        plain.rotate(handle)
    plain.check()


@pytest.mark.parametrize("spare", range(4))
def test_a_length_is_kept_whatever_its_slot_has_to_spare(spare):
    """In the cell, or in the last bytes of the slot; the frames that the slots lie in move, and then the objects."""
    rng = random.Random(spare)
    for size in (32, 48, 256, 2720, 3264, PAGE):
        frames, pool = make(chain=4, aged=size % 64 == 0)
        payloads = [rng.randbytes(size - spare) for _ in range(40)]
        handles = dict(enumerate(pool.put(payload, owner=i)[1] for i, payload in enumerate(payloads)))
        for frame in {frame for _, chain, _ in layout(pool.zspages) for frame in chain}:
            assert pool.relocate(frame) is not None
        for owner in rng.sample(sorted(handles), 30):
            pool.free(handles.pop(owner))
        compact(pool, handles)
        assert {owner: pool.get(handle) for owner, handle in handles.items()} == {i: payloads[i] for i in handles}
        assert pool.stored_bytes == 10 * (size - spare)
        pool.check()
        frames.check()


# ---- accounts ----


def test_the_three_wastes():
    """Chains of one frame: 4 slots of 1024 fill it; 3 of 1360 leave 16 bytes, 13 of 304 leave 144."""
    assert {(1024, 1, 4), (1360, 1, 3), (304, 1, 13)} <= set(size_classes(1))
    _, pool = make(chain=1)
    store(pool, 1000, 1010, 1024, 1024, 1345, 300)
    assert accounts(pool.zspages) == {
        "slots": 4 + 3 + 13,
        "used_slot_bytes": 4 * 1024 + 1360 + 304,
        "sparse_waste_bytes": 2 * 1360 + 12 * 304,
        "tail_waste_bytes": 16 + 144,
        "freeable_frames": 0,
    }
    stats = pool.stats()
    assert stats["rounding_waste_bytes"] == 24 + 14 + 15 + 4
    assert (stats["frames"], stats["objects"], stats["stored_bytes"]) == (3, 6, 5703)
    report = {row["size"]: row for row in classes_report(pool.zspages)}
    assert report[1360] == {
        "size": 1360,
        "frames": 1,
        "objects": 3,
        "zspages": 1,
        "used": 1,
        "groups": [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
    }
    assert [report[size]["groups"].index(1) for size in (304, 1024)] == [1, 11]


def docs_like_lengths(n):
    """Compressed lengths as of documentation pages: ratios around 2.3, some pages that hardly shrink."""
    rng = random.Random(3)
    return [min(PAGE, max(40, int(rng.gauss(1780, 700)))) for _ in range(n)]


def test_pool_and_tables_are_no_larger_than_zrams():
    """zram: 8 bytes before each object and 8 of handle (zsmalloc), 16 of table entry (handle, flags, time)."""
    lengths = docs_like_lengths(20000)
    _, pool = make(limit=12000, nr_frames=12000, aged=False)
    zram = Model(12000, header=8)
    for i, length in enumerate(lengths):
        assert pool.put(b"x" * length)[0] == OK
        zram.put(i, None, length)
    ours = pool.nr_pool_frames * PAGE + pool.metadata_bytes()
    assert ours <= 0.99 * (zram.frames * PAGE + len(lengths) * (8 + 16))
    assert pool.metadata_bytes() <= 8.5 * len(lengths)  # zram, without the way from the object to its owner: 24


# ---- tables ----


def test_tables_that_grow_take_frames_and_are_refused_without():
    """Every question for a frame is refused once: nothing has changed then, and the next try works."""
    frames, pool = make()
    refused = 0
    for i in range(3000):
        payload, usage, tables = bytes([i & 0xFF]) * (40 + i % 50), frames.usage(), frames.usage()["backing"]
        frames.buddy.fail_after(1)
        outcome, handle = pool.put(payload)
        frames.buddy.fail_after(0)
        if outcome != OK:
            assert (outcome, handle, pool.nr_objects, frames.usage()) == (NO_FRAME, None, i, usage)
            outcome, handle = pool.put(payload)
            refused += frames.usage()["backing"] > tables  # it was for the records
        assert outcome == OK and pool.get(handle) == payload
    assert refused > 5 and pool.stats()["reject_no_frame"] > refused
    assert frames.usage()["backing"] == -(-pool.metadata_bytes() // PAGE)
    frames.check()
    pool.check()


@pytest.mark.parametrize("content", [Bytes, Fingerprints])
def test_a_large_table_grows_by_little_when_frames_are_few(content):
    """By a 32nd of 100 000 cells and ages it would be nine frames. The other pool leaves two."""
    frames = Frames(content(4000))
    pool, other = ZpoolProbe(Zpool(frames, 4000)), ZpoolProbe(Zpool(frames, 4000))

    def put(into, length):
        return into.put(b"x" * (length if content is Bytes else 8), length)[0]

    assert all(put(pool, 30) == OK for _ in range(100_000))
    room = pool.metadata_bytes()
    while pool.metadata_bytes() < room + 5 * PAGE:
        room = pool.metadata_bytes()
        assert put(pool, 30) == OK
    assert all(put(pool, 30) == OK for _ in range(3000))
    while frames.buddy.nr_free > 2:
        assert put(other, PAGE) == OK
    stored = 0
    while put(pool, 30) == OK:
        stored += 1
    assert frames.buddy.nr_free == 0 and stored > 100
    frames.check()
    pool.check()


# ---- age ----


def test_store_order_and_second_chance():
    _, pool = make()
    assert pool.oldest() == NONE
    a, b, c = store(pool, 10, 2000, 10)
    pool.get(a)
    assert pool.oldest() == a and pool.was_loaded(a) and not pool.was_loaded(b)
    pool.rotate(a)
    assert pool.oldest() == b and not pool.was_loaded(a)
    pool.free(b)
    assert pool.oldest() == c
    pool.rotate(c)
    assert pool.oldest() == a
    pool.rotate(a)
    assert pool.oldest() == c
    pool.check()


def test_compaction_keeps_bytes_owners_order_and_marks():
    """Three frames of four slots with 1, 2 and 1 objects left: all fit into the one with 2."""
    frames, pool = make(chain=1)
    handles = dict(enumerate(store(pool, *[1024] * 12)))
    kept = [2, 4, 7, 9]
    for owner in set(handles) - set(kept):
        pool.free(handles.pop(owner))
    for owner in kept:
        pool.rotate(handles[owner])
    assert pool.get(handles[2]) == bytes([2]) * 1024
    assert pool.stats()["freeable_frames"] == 2
    before = dict(handles)
    assert compact(pool, handles) == 2 and pool.compact() == []
    assert [owner for owner in kept if handles[owner] != before[owner]] == [2, 9]
    assert pool.nr_pool_frames == frames.usage()["zspage"] == 1
    assert [pool.was_loaded(handles[owner]) for owner in kept] == [True, False, False, False]
    pool.check()
    for owner in kept:
        assert pool.oldest() == handles[owner]
        assert pool.get(handles[owner]) == bytes([owner]) * 1024
        pool.free(handles[owner])
    stats = pool.stats()
    assert (stats["compact_moved_objects"], stats["compact_moved_bytes"], stats["compact_freed_frames"]) == (2, 2048, 2)


def test_the_order_survives_when_few_are_left():
    """One object that moves, two, and three: alone in the ring, its own neighbour's neighbour, in the middle."""
    for left in (1, 2, 3):
        _, pool = make(chain=1)
        handles = dict(enumerate(store(pool, *[1024] * 12)))
        for owner in set(handles) - {0, 4, 8}:
            pool.free(handles.pop(owner))
        for owner in (0, 4, 8)[left:]:
            pool.free(handles.pop(owner))
        compact(pool, handles)
        pool.check()
        for owner in sorted(handles):
            assert pool.oldest() == handles[owner]
            pool.free(handles[owner])
            pool.check()
        assert pool.oldest() == NONE


def test_every_class_is_compacted():
    frames, pool = make()
    for size, chain, objects in size_classes():
        handles = dict(enumerate(store(pool, *[size] * (2 * objects))))
        for owner in set(handles) - {0, objects}:
            pool.free(handles.pop(owner))
        assert compact(pool, handles) == (chain if objects > 1 else 0)
        pool.check()
        for owner, handle in handles.items():
            assert pool.get(handle) == bytes([owner & 0xFF]) * size
            pool.free(handle)
    assert frames.usage()["zspage"] == 0
