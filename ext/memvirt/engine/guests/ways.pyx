"""The ways in which guests give memory, by name. A new one is a file, and a line here and in memvirt.settings.vm_config."""

from .balloon_driver cimport PageBalloon
from .elastic cimport Elastic
from .guest cimport Guest
from .huge_balloon cimport HugeBalloon
from .hyperalloc cimport HyperAlloc
from .squeezy cimport Squeezy
from .virtio_mem cimport VirtioMem

from memvirt.errors import ConfigError

WAYS = {None: PageBalloon(), "balloon": PageBalloon(), "balloon-huge": HugeBalloon(), "virtio-mem": VirtioMem(),
        "hyperalloc": HyperAlloc(), "squeezy": Squeezy()}


cdef Elastic way_of(Guest guest):
    if guest.elastic not in WAYS:
        raise ConfigError(f"guest: elastic={guest.elastic!r} is none of {', '.join(filter(None, WAYS))}")
    return WAYS[guest.elastic]
