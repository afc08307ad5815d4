"""Misses of demand paging as the papers of the newer orders tell it: one loop each, no passive interface."""

from collections import OrderedDict, deque


def paper_slru(pages, capacity, segments=4):
    """Segments as dicts, oldest first. A memory that is not full is filled from the lowest segment on."""
    parts, share, misses = [OrderedDict() for _ in range(segments)], capacity // segments, 0
    for page in pages:
        level = next((level for level, part in enumerate(parts) if page in part), None)
        if level is None:
            misses += 1
            if sum(map(len, parts)) == capacity:
                next(part for part in parts if part).popitem(last=False)
            next((part for part in parts if len(part) < share), parts[0])[page] = None
            continue
        del parts[level][page]
        level = min(level + 1, segments - 1)
        parts[level][page] = None
        while level and len(parts[level]) > share:
            parts[level - 1][parts[level].popitem(last=False)[0]] = None
            level -= 1
    return misses


def paper_mq(pages, capacity, queues=8, lifetime=10_000):
    """The paper's Get, Evict and Adjust; Qout has four times the capacity."""
    levels, out, misses = [OrderedDict() for _ in range(queues)], OrderedDict(), 0
    where, count, expires = {}, {}, {}
    for now, page in enumerate(pages):
        if page in where:
            del levels[where[page]][page]
            count[page] += 1
        else:
            misses += 1
            count[page] = out.pop(page, 0) + 1
            if len(where) == capacity:
                victim, _ = next(level for level in levels if level).popitem(last=False)
                del where[victim]
                out[victim] = count[victim]
                if len(out) > 4 * capacity:
                    out.popitem(last=False)
        where[page] = min(count[page].bit_length() - 1, queues - 1)
        levels[where[page]][page] = None
        expires[page] = now + lifetime
        for k in range(1, queues):
            oldest = next(iter(levels[k]), None)
            if oldest is not None and expires[oldest] < now + 1:
                del levels[k][oldest]
                levels[k - 1][oldest] = None
                where[oldest], expires[oldest] = k - 1, now + 1 + lifetime
    return misses


def paper_lirs(pages, capacity):
    """Status of a block: "LIR", "HIR", or "gone" (in S only). S has at most twice the capacity, who left first goes first."""
    high = max(1, capacity // 100)
    low, stack, queue, status, left, misses = capacity - high, OrderedDict(), OrderedDict(), {}, OrderedDict(), 0

    def prune():
        while stack and status[next(iter(stack))] != "LIR":
            block, _ = stack.popitem(last=False)
            if status[block] == "gone":
                del status[block], left[block]

    def swap_roles(page):
        """Page becomes LIR, and the bottom of S a HIR block at the end of Q."""
        queue.pop(page, None)
        status[page] = "LIR"
        if sum(state == "LIR" for state in status.values()) > low:
            prune()
            bottom, _ = stack.popitem(last=False)
            status[bottom], queue[bottom] = "HIR", None

    for page in pages:
        resident, in_stack = status.get(page) in ("LIR", "HIR"), page in stack
        if not resident:
            misses += 1
            if sum(state != "gone" for state in status.values()) == capacity:
                victim, _ = queue.popitem(last=False)
                if victim in stack:
                    status[victim], left[victim] = "gone", None
                else:
                    del status[victim]
        left.pop(page, None)
        stack[page] = None
        stack.move_to_end(page)
        if not resident and not in_stack and sum(state == "LIR" for state in status.values()) < low:
            status[page] = "LIR"
        elif in_stack and status[page] != "LIR":
            swap_roles(page)
        elif status.get(page) != "LIR":
            status[page] = "HIR"
            queue.pop(page, None)
            queue[page] = None
        prune()
        while len(stack) > 2 * capacity and left:
            block, _ = left.popitem(last=False)
            del stack[block], status[block]
    return misses


def paper_clock_pro(pages, capacity):
    """The list from old to new; each page a record of [page, kind, in test, mark], kind one of hot, cold, gone."""
    clock, record, misses, target, full = deque(), {}, 0, max(1, capacity // 100), False

    def number(kind):
        return sum(each[1] == kind for each in clock)

    def forward(each):
        clock.remove(each)
        clock.append(each)

    def end_test(each):
        nonlocal target
        if each[1] == "gone" or not each[3]:
            target = max(1, target - 1)
        each[2] = False
        if each[1] == "gone":
            clock.remove(each)
            del record[each[0]]

    def test_ends_up_to_first_hot():
        if number("hot"):
            for each in list(clock):
                if each[1] == "hot":
                    return
                if each[2]:
                    end_test(each)

    def hand_hot():
        while number("hot") and number("hot") > capacity - target:
            test_ends_up_to_first_hot()
            each = next(each for each in clock if each[1] == "hot")
            if not each[3]:
                each[1] = "cold"
            each[3] = False
            forward(each)
        test_ends_up_to_first_hot()

    def promote(each):
        nonlocal target
        target = min(capacity, target + 1)
        each[1:] = ["hot", False, False]
        forward(each)
        hand_hot()

    def hand_cold():
        while True:
            each = next(each for each in clock if each[1] == "cold")
            if each[3] and each[2]:
                promote(each)
            elif each[3]:
                each[1:] = ["cold", True, False]
                forward(each)
            else:
                break
        if each[2]:
            each[1] = "gone"
            while number("gone") > capacity:
                end_test(next(each for each in clock if each[2]))
        else:
            clock.remove(each)
            del record[each[0]]

    for page in pages:
        if page in record and record[page][1] != "gone":
            record[page][3] = True
            continue
        misses += 1
        if number("hot") + number("cold") == capacity:
            full = True
            hand_cold()
        if page in record:
            promote(record[page])
            continue
        hot = not full and number("hot") < capacity - target
        record[page] = [page, "hot", False, False] if hot else [page, "cold", True, False]
        clock.append(record[page])
    return misses
