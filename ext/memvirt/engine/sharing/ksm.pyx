"""Kernel samepage merging as Linux does it (mm/ksm.c of 6.18): two ordered trees, walked by comparing bytes.

A pass goes VM by VM in address order, as ksmd goes process by process, and not frame by frame: what it knows is kept
per guest page (`Item`, Linux's rmap_item), so a page that a clone shares is looked at once per VM. A page is taken
through these steps:

    merged already         its item joins the users of the frame's stable node, if it is not one of them yet
    checksum has changed   since the last look: too volatile to be worth more; it comes again in the next pass
    zeros                  with use_zero_pages: the entry names the zero frame, and the item goes
    stable tree            holds a frame with the same bytes and room for a user: merged with it
    unstable tree          holds a page with the same bytes: the two are merged and become a stable node;
                           if it holds none, the page is inserted there

The unstable tree is in the order its pages had when they were inserted. They are not protected, so the order may be
wrong by the time of a search; then a pair is missed, until the next pass builds the tree anew. What is found is merged
at once: nothing runs between the comparison and the merge.

Counters are the kernel's, of items: a page that stopped being merged is still counted until the pass comes by, unless
its frame is gone. pages_shared are stable nodes with users, pages_sharing further users, pages_unshared the items
inserted into the unstable tree, pages_volatile all other items; general_profit is computed with Linux's rmap_item of 64
bytes. Beside the kernel's, pinned pages are not looked at, and salting keeps VMs or domains apart (global, the default,
is what Linux does).

smart_scan and the scan-time advisor (advisor.pyx) follow the same source.

With `hints` (XLH's addition, off by default) pages whose content has just arrived are looked at out of turn, without the
checksum test, which would make them wait for the next pass: a page that was read whole a moment ago is taken at its word,
and if it is written to after all, that is a break like any other.

Items (ksm_items.pyx) and stable nodes are charged to the host as they are taken.
"""

from cpython.exc cimport PyErr_CheckSignals

from memvirt.errors import InvariantError

from ..counters cimport CPU_SCAN
from ..memory.frames cimport FRAME_STABLE
from ..mapping.rmap cimport Walk
from ..types cimport MAX_VMS, NONE, OK, PAGE_SIZE, gfn_t, hfn_t, uint32_t, vmid_t
from .advisor cimport Advisor
from .ksm_items cimport (CHUNK_SHIFT, ITEM_ABSENT, ITEM_NEITHER, ITEM_STABLE, ITEM_UNSTABLE, ITEMS_PER_CHUNK, Item,
                         Items)
from .scanner cimport Scanner
from .stable cimport Node, StableTree
from .treap cimport Treap

cdef enum:
    RMAP_ITEM_BYTES = 64        # sizeof(struct ksm_rmap_item) on x86-64, for general_profit


cdef class KsmScanner(Scanner):
    """Options as in /sys/kernel/mm/ksm, times in simulated ns."""

    def __init__(self, index, pages_to_scan, sleep_ns, uint32_t max_page_sharing, use_zero_pages, smart_scan, advisor,
                 advisor_target_ns, advisor_max_cpu, advisor_min_pages, advisor_max_pages, hints):
        Scanner.__init__(self, index, advisor_min_pages if advisor else pages_to_scan, sleep_ns, hints)
        if max_page_sharing < 2:
            raise ValueError(f"max_page_sharing {max_page_sharing}: a shared frame has at least 2 users")
        if use_zero_pages != (self.index.zero_frame != NONE):
            raise ValueError(f"use_zero_pages={use_zero_pages}, but the share index keeps "
                             f"{'a' if self.index.zero_frame != NONE else 'no'} zero frame")
        self.stable = StableTree(self.index.frames, self.clock, max_page_sharing)
        self.items = Items(self.index.mapping)
        self.unstable = Treap(self.items.chunks)
        self.smart_scan = smart_scan
        if advisor:
            self.advisor = Advisor(self.clock, advisor_target_ns, advisor_max_cpu, advisor_max_pages)
        self.index.follower = self
        self.index.mapping.copy_merged = True

    # ---- the pass

    cdef uint32_t scan(self, uint32_t pages) except? 0xFFFFFFFF nogil:
        cdef uint32_t merged = 0, looked = 0, id
        cdef hfn_t frame
        if pages == NONE:
            self._begin_pass()              # of a pass given up, the unstable tree stays: its items move as they are met
        merged += self.follow_hints(pages, &looked)
        while looked < pages and not self.clock.interrupt.asked():
            if not self.in_pass:
                self._begin_pass()
            if not self._next_page(&frame, &id):
                self._end_pass()
                break
            looked += 1
            self.pages_scanned += 1
            self.clock.spend(CPU_SCAN, self.clock.costs.scan_visit)
            merged += self._look(frame, id)
        return merged

    cdef void _begin_pass(self) noexcept nogil:
        self.in_pass = True
        self.met = False
        self.at_vm = 0
        self.at_gfn = 0
        if self.advisor is not None:
            self.advisor.begin_pass()

    cdef void _end_pass(self) noexcept nogil:
        self.in_pass = False
        self.full_scans += self.met     # ksmd sleeps while no memory is registered: a VM, empty or not, makes it a pass
        self.unstable.clear()           # items that were in it are recognised by their pass number
        if self.advisor is not None:
            self.pages_to_scan = self.advisor.advise(self.pages_to_scan)

    cdef bint _next_page(self, hfn_t *frame, uint32_t *id) except? True nogil:
        """The next page to look at and its item; False at the end of the pass. Items of pages no longer there go."""
        cdef gfn_t gfn
        cdef vmid_t vm
        cdef hfn_t found
        while self.at_vm < MAX_VMS:
            vm = <vmid_t>self.at_vm
            if (not self.index.mapping.charges.of[vm].open
                    or self.at_gfn >= self.index.mapping.leaves.directory[vm].nr_pages):
                self.met |= self.index.mapping.charges.of[vm].open
                self.at_vm += 1
                self.at_gfn = 0
                continue
            gfn = self.at_gfn
            found = self.frame_at(vm, gfn, &self.at_gfn)
            if found == NONE or not self.index.mergeable(found):
                self._forget(vm, gfn, self.at_gfn)
                continue
            id[0] = self.items.of_page(vm, gfn)
            if id[0] == NONE:
                self.no_item += 1
                continue
            if (self.smart_scan and not self.index.frames.frame[found].flags & FRAME_STABLE
                    and self._skip(self.items.at(id[0]))):
                self.pages_skipped += 1
                self._remove(id[0])
                continue
            frame[0] = found
            return True
        return False

    cdef bint _skip(self, Item *item) noexcept nogil:
        """smart_scan: a page that was looked at often without a merge is passed over ever more often."""
        cdef uint32_t age = item.age
        if age != 255:
            item.age += 1
        if age < 3:
            return False
        if item.skips == 0:
            item.skips = 1 if age <= 3 else 2 if age <= 5 else 4 if age <= 8 else 8
            return False
        item.skips -= 1
        return True

    # ---- one page

    cdef bint _look(self, hfn_t frame, uint32_t id) except? True nogil:
        """Take one page through the steps; True if its frame came free."""
        cdef Item *item = self.items.at(id)
        cdef uint32_t checksum, node
        if self.index.frames.frame[frame].flags & FRAME_STABLE:
            node = self.stable.node_of[frame]
            if item.state != ITEM_STABLE or item.node != node:      # a clone's page: counted, whatever the limit
                self._remove(id)
                self._append(id, node)
            return False
        self._remove(id)
        checksum = self.index.content.checksum(frame)
        self.clock.spend(CPU_SCAN, self.clock.costs.hash_page)
        if item.checksum != checksum:
            item.checksum = checksum
            return False
        return self._search(frame, id)

    cdef bint visit(self, hfn_t frame, uint32_t *looked) except? True nogil:
        """A page whose content has just arrived: searched for at once. (Under a leaf that clones share it is one VM's;
        the others' turn comes in the pass.)"""
        cdef Walk walk
        cdef uint32_t id
        if not self.index.mergeable(frame) or self.index.frames.frame[frame].flags & FRAME_STABLE:
            return False
        self.index.mapping.rmap.walk(frame, &walk)
        id = self.items.of_page(<vmid_t>self.index.mapping.leaves.slot(walk.leaf.holders).vm, walk.gfn)
        if id == NONE:
            self.no_item += 1
            return False
        looked[0] += 1
        self.pages_scanned += 1
        self.clock.spend(CPU_SCAN, self.clock.costs.scan_visit + self.clock.costs.hash_page)
        self._remove(id)
        self.items.at(id).checksum = self.index.content.checksum(frame)
        return self._search(frame, id)

    cdef bint _search(self, hfn_t frame, uint32_t id) except? True nogil:
        """Merge a page that changes seldom with one of its bytes, or leave it where the next one finds it."""
        cdef uint32_t node
        if self.index.zero_frame != NONE and self.index.is_zero(frame):
            return self.index.merge_zero(frame)
        node = self.stable.search(frame, self.index.salt_of_vm(self.items.at(id).vm))
        if node == NONE:
            return self._search_unstable(frame, id)
        if not self.index.merge(frame, self.stable.node(node).frame):
            return False
        self._append(id, node)
        return True

    cdef bint _search_unstable(self, hfn_t frame, uint32_t id) except? True nogil:
        """Find an equal page and merge, or insert this one where the search ended."""
        cdef uint32_t below = self.unstable.root, parent = NONE
        cdef uint32_t salt = self.index.salt_of_vm(self.items.at(id).vm)
        cdef Item *item
        cdef hfn_t other
        cdef gfn_t next
        cdef int order = 0
        while below != NONE:
            item = self.items.at(below)
            other = self.frame_at(item.vm, item.gfn, &next)
            if (other == NONE or other == frame or not self.index.mergeable(other)
                    or self.index.frames.frame[other].flags & FRAME_STABLE):
                return False            # gone, or a clone's view of this very frame: leave it for the next pass
            order = self.stable.order(frame, salt, other, self.index.salt_of_vm(item.vm))
            if order == 0:
                return self._merge_two(frame, id, other, below)
            parent = below
            below = item.left if order < 0 else item.right
        self.unstable.insert(id, parent, order < 0)
        self.items.at(id).state = ITEM_UNSTABLE
        self.items.at(id).pass_ = self.full_scans & 0xFF
        self.pages_unshared += 1
        return False

    cdef bint _merge_two(self, hfn_t frame, uint32_t id, hfn_t other, uint32_t other_id) except? True nogil:
        """Two unmerged pages are equal: the frame of the one at hand stays, as a stable node with two users."""
        cdef uint32_t node
        if self.stable.nodes.reserve(1, self.index.frames.min_pages) != OK or not self.index.merge(other, frame):
            return False
        self._remove(other_id)
        node = self.stable.add(frame, self.index.salt_of_vm(self.items.at(id).vm))
        self._append(other_id, node)
        self._append(id, node)
        return True

    # ---- items

    cdef void _forget(self, vmid_t vm, gfn_t first, gfn_t end) noexcept nogil:
        """There are no pages at first .. end - 1: no items either."""
        cdef gfn_t gfn = first
        cdef uint32_t id = self.items.next(vm, &gfn, end)
        while id != NONE:
            self._remove(id)
            self.items.drop(id)
            id = self.items.next(vm, &gfn, end)

    cdef void forget_vm(self, vmid_t vm) noexcept nogil:
        self._forget(vm, 0, <gfn_t>(self.items.nr_root[vm] << CHUNK_SHIFT))
        self.items.close(vm)

    cdef void _remove(self, uint32_t id) noexcept nogil:
        """The item leaves whichever tree it is in."""
        cdef Item *item = self.items.at(id)
        cdef Node *node
        if item.state == ITEM_STABLE:
            node = self.stable.node(item.node)
            if item.left != NONE:
                self.items.at(item.left).right = item.right
            else:
                node.users = item.right
            if item.right != NONE:
                self.items.at(item.right).left = item.left
            node.nr_users -= 1
            if node.nr_users:
                self.nr_sharing -= 1
            else:
                self.nr_shared -= 1
        elif item.state == ITEM_UNSTABLE:
            if item.pass_ == (self.full_scans & 0xFF):      # else the tree it was in is gone
                self.unstable.remove(id)
            self.pages_unshared -= 1
        item.state = ITEM_NEITHER

    cdef void _append(self, uint32_t id, uint32_t node_id) noexcept nogil:
        """The item becomes a user of a stable node."""
        cdef Item *item = self.items.at(id)
        cdef Node *node = self.stable.node(node_id)
        item.state = ITEM_STABLE
        item.node = node_id
        item.left = NONE
        item.right = node.users
        if node.users != NONE:
            self.items.at(node.users).left = id
            self.nr_sharing += 1
        else:
            self.nr_shared += 1
        node.users = id
        node.nr_users += 1

    # ---- told by the share index

    cdef void unshared(self, hfn_t frame) noexcept nogil:
        """A merged frame is one no more: its node goes, and its users with it."""
        cdef uint32_t id = self.stable.node_of[frame]
        if id == NONE:
            return
        while self.stable.node(id).users != NONE:
            self._remove(self.stable.node(id).users)
        self.stable.remove(id)

    cdef void moved(self, hfn_t source, hfn_t target) noexcept nogil:
        cdef uint32_t id = self.stable.node_of[source]
        self.stable.node_of[source] = NONE
        self.stable.node_of[target] = id
        if id != NONE:
            self.stable.node(id).frame = target

    # ---- what there is to see

    def metadata_bytes(self):
        return self.stable.metadata_bytes()

    def metadata_bytes_of(self, uint32_t nr_pages):
        return ((nr_pages + ITEMS_PER_CHUNK - 1) >> CHUNK_SHIFT) * sizeof(uint32_t)

    def metadata_frames(self):
        return self.items.chunks.nr_pages + self.stable.metadata_frames()

    def most_frames(self, sizes):
        """An item for each page, a node for each frame."""
        chunks = sum((size + ITEMS_PER_CHUNK - 1) >> CHUNK_SHIFT for size in sizes)
        return max(chunks, self.items.chunks.nr_pages) + self.stable.most_frames()

    def counters(self):
        zero = self.index.zero_pages()
        return Scanner.counters(self) | {
            "pages_shared": self.nr_shared,
            "pages_sharing": self.nr_sharing,
            "pages_unshared": self.pages_unshared,
            "pages_volatile": self.items.nr - self.nr_shared - self.nr_sharing - self.pages_unshared,
            "pages_skipped": self.pages_skipped,
            "hints_followed": self.hints_followed,
            "ksm_zero_pages": zero,
            "general_profit": (self.nr_sharing + zero) * PAGE_SIZE - self.items.nr * RMAP_ITEM_BYTES,
            "stable_node_chains": self.stable.nr_chains,
            "stable_node_dups": self.stable.nr_duplicates,
            "rmap_items": self.items.nr,
            "rmap_items_put_off": self.no_item,
            "pages_to_scan": self.pages_to_scan,
        }

    def check(self):
        """Recount items, users and both trees."""
        cdef uint32_t vm, i, k, id, at, length
        cdef dict states = {ITEM_NEITHER: 0, ITEM_UNSTABLE: 0, ITEM_STABLE: 0}
        cdef uint32_t shared = 0, sharing = 0, chunks = 0
        self.stable.check()
        self.unstable.check()
        self.items.chunks.check()
        for vm in range(MAX_VMS):
            for i in range(self.items.nr_root[vm]):
                if self.items.root[vm][i] == NONE:
                    continue
                chunks += 1
                PyErr_CheckSignals()                # a recount may stop anywhere
                for k in range(ITEMS_PER_CHUNK):
                    id = self.items.root[vm][i] * ITEMS_PER_CHUNK + k
                    if self.items.at(id).state != ITEM_ABSENT:
                        self._check_item(id, vm, i * ITEMS_PER_CHUNK + k)
                        states[self.items.at(id).state] += 1
        id = self.stable.tree.first()
        while id != NONE:
            at = id
            while at != NONE:
                length = self._check_users(at)
                shared += length > 0
                sharing += length - 1 if length else 0
                at = self.stable.node(at).next
            id = self.stable.tree.next(id)
        recount = (sum(states.values()), states[ITEM_UNSTABLE], shared, sharing, chunks)
        counted = (self.items.nr, self.pages_unshared, self.nr_shared, self.nr_sharing, self.items.chunks.nr_used)
        if counted != recount or shared + sharing != states[ITEM_STABLE]:
            raise InvariantError(f"ksm items, unshared, shared, sharing, chunks: {counted}; recount {recount}, "
                                 f"{states[ITEM_STABLE]} items stable")

    def _check_item(self, uint32_t id, uint32_t vm, gfn_t gfn):
        cdef Item *item = self.items.at(id)
        if item.vm != vm or item.gfn != gfn or not self.index.mapping.charges.of[vm].open:
            raise InvariantError(f"ksm item {id}: says VM {item.vm} page {item.gfn}, stands at VM {vm} page {gfn}")
        if item.state == ITEM_STABLE and self.stable.node_of[self.stable.node(item.node).frame] != item.node:
            raise InvariantError(f"ksm item {id}: user of node {item.node}, which is none")

    def _check_users(self, uint32_t node_id):
        """Length of a node's list of users."""
        cdef Node *node = self.stable.node(node_id)
        cdef Item *item
        cdef uint32_t at = node.users, before = NONE, length = 0
        while at != NONE:
            item = self.items.at(at)
            if item.state != ITEM_STABLE or item.node != node_id or item.left != before:
                raise InvariantError(f"ksm node {node_id}: item {at} in its list is not its user")
            length += 1
            before = at
            at = item.right
        if length != node.nr_users:
            raise InvariantError(f"ksm node {node_id}: {node.nr_users} users, recount {length}")
        return length
