"""One episode: a configuration and a list of operations, both from a seed, and what came of them."""

import gc
import hashlib
import json
import signal

from fuzz import draws
from fuzz.draws import PAGE, Draw
from fuzz.lockstep import Pair
from fuzz.shadow import Shadow
from fuzz.world import World
from memvirt.engine.testing.host import is_lazy
from memvirt.errors import AdmissionError

PROFILES = ("plain", "tiny", "faults", "lockstep", "signals")
READ_AGAIN = 40  # steps; reading is an access, so this is part of what an episode is
WRITE = ("write", "access", "run", "revert", "discard")  # operations that change what VMs hold


def drawn(profile, seed, steps):
    """(settings of the host, operations)."""
    draw = Draw(f"{profile} {seed}")
    settings = draws.host(draw, profile)
    return settings, draws.operations(draw, settings["memory"] // PAGE, profile, steps)


def play(profile, settings, operations, every=5):
    """Do it; what is wrong raises. Returns {"steps": how many, "digest": …}; no steps if the host itself is refused.
    every: so many steps between two recounts, which change nothing: whatever it is, the same happens."""
    try:
        world = Pair(settings) if profile == "lockstep" else World(settings, faults=profile == "faults")
    except AdmissionError:
        return {"hosts refused": 1}
    does = Stormy(world) if profile == "signals" else world
    for step, (name, arguments) in enumerate(operations, 1):
        does.do(name, arguments)
        world.check()
        if step % every == 0:
            world.host.check()
        if step % READ_AGAIN == 0:
            world.verify()
    world.verify()
    digest = digest_of(world.host)
    world.end()
    if profile == "signals":
        return {"steps": len(operations), "interrupted": does.interrupted}
    return {"steps": len(operations), "digest": digest}


def digest_of(host):
    """Of all that a host tells of itself, but for this machine's time and what its files are."""
    told = {
        "counters": host.counters(),
        "cpu": host.cpu_ns(),
        "latencies": host.histograms(),
        "usage": host.usage(),
        "sharing": host.sharing(),
        "fragmentation": host.fragmentation(),
        "zpool": host.zpool(),
        "stores": host.stores(),
        "stall": host.stall(),
        "sim_ns": host.sim_ns,
        "vms": {vm.name: [vm.usage(), vm.counters(), vm.writes_done] for vm in host.vms},
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


class Interrupted(BaseException):
    """What the handler of the storm raises: as KeyboardInterrupt, nobody may take it for a fault of a decider."""


class Stormy:
    """Carries operations out while signals arrive, whose handler raises. What an interrupted one has done is not known:
    what its VMs hold then is taken over, so that only what happens to them later is judged. All others must be as before."""

    def __init__(self, world):
        self.world, self.draw = world, Draw(1)
        self.interrupted, self.armed = 0, False

    def do(self, name, arguments):
        before = signal.signal(signal.SIGALRM, self.raise_it)
        gc.disable()  # what is raised in a callback of the collector's is lost
        try:
            self.armed = True
            signal.setitimer(signal.ITIMER_REAL, self.draw.choice([20, 60, 200, 1000, 9000]) / 1e6)
            self.world.do(name, arguments)
            self.armed = False
        except Interrupted:
            self.interrupted += 1
            self.world.interrupted = True
            self.catch_up(name)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            gc.enable()

    def raise_it(self, *_):
        """Once, and not when the operation has ended: a signal that is late is seen at any call, and would escape."""
        if self.armed:
            self.armed = False
            raise Interrupted

    def catch_up(self, name):
        """Take over what there is."""
        world, host = self.world, self.world.host
        host.check()
        known = {shadow.vm.name: shadow for shadow in world.vms}
        world.vms = []
        for vm in host.vms:
            shadow = known.get(vm.name) or self.adopted(vm)
            shadow.frozen, shadow.sequence = vm.engine_vm.frozen, vm.writes_done
            shadow.pinned = {}
            if shadow not in known.values() or (name in WRITE and shadow in world.touched):
                self.reread(shadow)
            world.vms.append(shadow)
        kept = dict(world.saved)
        world.saved = [(state, kept[state]) for state in host.saved_states if state in kept]
        for state in host.saved_states:
            if state not in kept:
                state.drop()
        host.check()

    def adopted(self, vm):
        """A VM that was made, though nobody was told. What guest it was given is not known any more."""
        guest = vm.engine_vm.guest is not None and f"of {vm.name}"
        return Shadow(vm, guest, {"limit": vm.view().limit_pages, "reservation": 0})

    def reread(self, shadow):
        engine, pages = self.world.host.engine, range(shadow.vm.address_pages)
        # Before they are read: to bring one page back another may go, which has been read by then.
        lazy = [page for page in pages if shadow.guest is False and is_lazy(engine, shadow.vm.engine_vm, page)]
        found = shadow.vm.read_pages(pages)
        shadow.pages = {page: bytearray(data.tobytes()) for page, data in enumerate(found) if data.any()}
        shadow.others, shadow.fading = {}, set()
        for page in lazy:
            shadow.fade(page)
