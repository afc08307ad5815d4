"""The compressed pool and a plain-Python zsmalloc do the same at random: every decision must be the same."""

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from memvirt.engine.content.content import Bytes
from memvirt.engine.content.fingerprints import Fingerprints
from memvirt.engine.memory.frames import Frames
from memvirt.engine.stores.zpool import Zpool
from memvirt.engine.stores.zspage_report import layout
from memvirt.engine.testing.stores import ZpoolProbe
from oracle.zsmalloc_model import PAGE, Model

OK, NO_FRAME, POOL_FULL, REJECTED, NONE = 0, 1, 3, 4, 0xFFFFFFFF
HOST = 200


def make(limit=HOST, content=Bytes, nr_frames=HOST, **settings):
    frames = Frames(content(nr_frames))
    return frames, ZpoolProbe(Zpool(frames, limit, **settings))


class PoolMachine(RuleBasedStateMachine):
    """A pool of bytes, one of fingerprints and the model do the same; every decision must be the same. The model knows
    objects by their owners."""

    @initialize(
        chain=st.sampled_from([1, 4, 8, 16]),
        chain_rule=st.sampled_from(["waste", "used"]),
        limit=st.sampled_from([30, HOST]),
        accept=st.sampled_from([0, 90, 100]),
    )
    def build(self, chain, chain_rule, limit, accept):
        made = [
            make(limit, content, accept_percent=accept, chain=chain, chain_rule=chain_rule)
            for content in (Bytes, Fingerprints)
        ]
        self.hosts = [frames for frames, _ in made]
        self.pools = [pool for _, pool in made]
        self.model = Model(limit, accept, chain, chain_rule)
        self.rng = random.Random(1)
        self.handle = {}  # by owner
        self.owners = 0

    def one(self, pick):
        return sorted(self.model.where)[pick % len(self.model.where)]

    def same(self, call):
        """What both pools answer, which must be one thing."""
        first, second = (call(pool) for pool in self.pools)
        assert first == second
        return first

    def tables(self):
        """Frames taken for the tables' bytes."""
        taken = [host.usage()["backing"] for host in self.hosts]
        assert taken == [-(-pool.metadata_bytes() // PAGE) for pool in self.pools]
        return self.same(lambda pool: pool.frames.usage()["backing"])

    def put_one(self, length, room):
        payload = self.rng.randbytes(length)
        free = HOST - self.model.frames - self.tables()
        reserve = 0 if room is None else max(0, free - room)
        self.owners += 1
        stored = self.pools[0].put(payload, reserve=reserve, owner=self.owners)
        assert self.pools[1].put(payload[:8].ljust(8), length, reserve, self.owners) == stored
        needed = self.model.frames_needed(length)
        if self.model.declines():
            assert stored == (POOL_FULL, None)
        elif needed and free - reserve < needed:
            assert stored == (NO_FRAME, None)
        elif stored == (NO_FRAME, None):
            assert needed and free - reserve < needed + 1  # for the record
        else:
            assert stored[0] == OK and stored[1] not in self.handle.values()
            self.handle[self.owners] = stored[1]
            self.model.put(self.owners, payload, length)

    def drop(self, owner):
        handle = self.handle.pop(owner)
        self.same(lambda pool: pool.free(handle))
        self.model.drop(owner)

    @rule(length=st.integers(1, PAGE), room=st.none() | st.integers(0, 16))
    def put(self, length, room):
        self.put_one(length, room)

    @rule(length=st.sampled_from([20, 700, 1500, 3264, PAGE]), count=st.integers(10, 80))
    def put_many(self, length, count):
        for _ in range(count):
            self.put_one(length, None)

    @precondition(lambda self: self.model.where)
    @rule(pick=st.integers(0), count=st.integers(1, 12))
    def free(self, pick, count):
        for i in range(min(count, len(self.model.where))):
            self.drop(self.one(pick + 7 * i))

    @precondition(lambda self: self.model.where)
    @rule(pick=st.integers(0))
    def rotate(self, pick):
        owner = self.one(pick)
        self.same(lambda pool: pool.rotate(self.handle[owner]))
        self.model.ages.remove(owner)
        self.model.ages.append(owner)

    def thin_out(self, keep):
        """Leaves about one object in `keep`, so that there is something to compact."""
        for owner in sorted(self.model.where):
            if self.rng.randrange(keep):
                self.drop(owner)

    @rule(keep=st.integers(1, 6))
    def compact(self, keep):
        self.thin_out(keep)
        promised = self.pools[0].stats()["freeable_frames"]
        before = self.pools[0].nr_pool_frames
        gained = self.model.compact()
        self.handle.update(self.same(lambda pool: pool.compact()))
        assert before - self.pools[0].nr_pool_frames == gained == promised
        assert self.same(lambda pool: pool.stats())["compact_moved_objects"] == self.model.moved
        assert self.pools[0].stats()["freeable_frames"] == 0

    @precondition(lambda self: self.model.frames)
    @rule(pick=st.integers(0))
    def relocate(self, pick):
        chains = [frame for _, chain, _ in layout(self.pools[0].zspages) for frame in chain]
        source = chains[pick % len(chains)]
        target = self.same(lambda pool: pool.relocate(source))
        assert target is None if self.model.frames + self.tables() == HOST else target not in chains

    @invariant()
    def nothing_is_lost(self):
        for owner, payload in self.model.payload.items():
            assert self.pools[0].get(self.handle[owner]) == payload
            assert self.pools[1].get(self.handle[owner]) == payload[:8].ljust(8)

    @invariant()
    def every_decision_is_the_same(self):
        if not hasattr(self, "model"):
            return
        found = self.same(lambda pool: layout(pool.zspages))
        assert [(size, owners) for size, _, owners in found] == self.model.layout()
        stats = self.same(lambda pool: pool.stats())
        assert (stats["frames"], stats["objects"]) == (self.model.frames, len(self.model.where))
        assert stats["stored_bytes"] == sum(self.model.length.values())
        assert self.same(lambda pool: pool.oldest()) == (self.handle[self.model.ages[0]] if self.model.ages else NONE)

    @invariant()
    def it_recounts(self):
        for host, pool in zip(self.hosts, self.pools, strict=True):
            pool.check()
            host.check()
            assert host.usage()["zspage"] == pool.nr_pool_frames


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)


@pytest.mark.parametrize("chain_rule, chain, seed", [("waste", 8, 1), ("used", 16, 2), ("waste", 4, 3)])
def test_long_churn(chain_rule, chain, seed):
    """Many objects of few classes, thinned out and compacted: what random rules rarely reach."""
    machine = PoolMachine()
    machine.build(chain=chain, chain_rule=chain_rule, limit=HOST, accept=90)
    for turn in range(12):
        for length in (20, 300, 700, 1500, 2200):
            machine.put_many(length=length, count=machine.rng.randrange(120))
        machine.relocate(pick=turn * 37)
        machine.compact(keep=2 + turn % 4)
        machine.nothing_is_lost()
        machine.every_decision_is_the_same()
        machine.it_recounts()
    assert machine.model.moved > 300
    assert machine.pools[0].stats()["compact_freed_frames"] > 50
