"""Where a VM's memory is, and how well it lies there: what is mapped huge, what could be, and how long its runs are.

A run is a stretch of guest-physical pages whose frames follow each other too. A guest that is one run needs the fewest
translations whatever their size; memory handed out page by page in the order of first touches is all short runs.
"""

from libc.string cimport memset

from .engine cimport Engine
from .vm cimport Vm
from ..mapping.leaf cimport PTE_PRESENT, PTE_WHERE, Leaf, Look
from ..types cimport LEAF_ENTRIES, NONE, hfn_t, uint32_t, uint64_t

cdef enum:
    LATELY = 256                # frames whose mappings are remembered


def usage_of_vm(Engine engine not None, Vm vm not None):
    """charged_pages it pays for; present_pages it maps; backed_pages that are out of memory; proportional_millipages:
    present pages, each divided by the mappings of its frame (x 1000, rounded down)."""
    cdef uint32_t gfn = 0, index, entry
    cdef uint64_t present = 0, backed = 0, share = 0
    cdef uint64_t part[LATELY]
    cdef hfn_t lately[LATELY]           # a frame that many pages name has a long chain: it is not walked for each of them
    cdef hfn_t frame
    cdef Look at
    engine.own(vm)
    memset(lately, 0xFF, sizeof(lately))
    while gfn < vm.nr_pages:
        if engine.mapping.leaves.look(vm.id, gfn, &at):
            for index in range(LEAF_ENTRIES):
                entry = engine.mapping.leaves.entry(at.leaf, index)
                if not entry & PTE_PRESENT:
                    backed += entry != 0
                    continue
                present += 1
                frame = entry & PTE_WHERE
                if lately[frame % LATELY] != frame:
                    lately[frame % LATELY] = frame
                    part[frame % LATELY] = 1000 // engine.mapping.rmap.mappings(frame)
                share += part[frame % LATELY]
        gfn += LEAF_ENTRIES
    return {"charged_pages": vm.charged, "present_pages": present, "backed_pages": backed,
            "proportional_millipages": share}


def of_vm(Engine engine not None, Vm vm not None):
    """present_pages in memory; huge_pages of them under huge leaves; collapsible_pages that lie so that they could be,
    as they are; promotable_pages that could be after copying (see collapse); runs; mean_run in thousandths of a page,
    0 when nothing is present."""
    cdef uint32_t gfn = 0, index, entry, before = NONE
    cdef uint64_t present = 0, huge = 0, collapsible = 0, promotable = 0, runs = 0
    cdef Look at
    engine.own(vm)
    while gfn < vm.nr_pages:
        if not engine.mapping.leaves.look(vm.id, gfn, &at):
            gfn += LEAF_ENTRIES
            before = NONE
            continue
        if at.leaf.entries == NULL:
            huge += LEAF_ENTRIES
        elif engine.mapping.tables.collapsible(at.id):
            collapsible += LEAF_ENTRIES
        elif engine.collapser.copyable(at.id):
            promotable += LEAF_ENTRIES
        for index in range(LEAF_ENTRIES):
            entry = engine.mapping.leaves.entry(at.leaf, index)
            if entry & PTE_PRESENT:
                present += 1
                runs += before == NONE or (entry & PTE_WHERE) != before + 1
                before = entry & PTE_WHERE
            else:
                before = NONE
        gfn += LEAF_ENTRIES
    return {"present_pages": present, "huge_pages": huge, "collapsible_pages": collapsible,
            "promotable_pages": promotable, "runs": runs, "mean_run": present * 1000 // runs if runs else 0}


def of_host(Engine engine not None):
    """Of free memory (see Buddy.fragmentation), and how well guests' memory lies: huge_pages mapped huge,
    collapsible_leaves that could be, runs: number of gfn -> hfn runs, present_pages in them."""
    cdef Leaf *leaf
    cdef uint32_t id, i, entry, before
    cdef uint64_t runs = 0, present = 0, could = 0
    for id in range(engine.mapping.leaves.records.end()):
        leaf = engine.mapping.leaves.at(id)
        if not leaf.used:
            continue
        could += engine.mapping.tables.collapsible(id)
        before = 0
        for i in range(LEAF_ENTRIES):
            entry = engine.mapping.leaves.entry(leaf, i)
            if entry & PTE_PRESENT:
                present += 1
                runs += not before or (entry & PTE_WHERE) != (before & PTE_WHERE) + 1
                before = entry
            else:
                before = 0
    return engine.frames.buddy.fragmentation() | {
        "huge_pages": engine.mapping.leaves.nr_huge * LEAF_ENTRIES, "collapsible_leaves": could,
        "present_pages": present, "runs": runs}
