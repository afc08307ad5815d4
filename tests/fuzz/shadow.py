"""What every page of every VM must hold, and what is due to it: restated from the documentation, without the engine."""

from fuzz.draws import CORPUS, PAGE

ZERO = bytes(PAGE)


def word_of(page):
    """The byte in its page at which an access writes its tag."""
    return (page * 2654435761 % 2**32 >> 7 & 511) * 8


class Shadow:
    """One VM."""

    def __init__(self, vm, guest, settings):
        self.vm, self.guest, self.settings = vm, guest, settings
        self.pages, self.sequence, self.frozen = {}, 0, False
        self.pinned = {}  # page -> its frame, of a VM without a guest
        self.fading = (
            set()
        )  # pages that were given up lazily, and not written since: they may turn to zeros at any time
        self.others = {}  # page -> what else it may hold, as it may have, before it was written

    def page(self, number):
        return self.pages.setdefault(number, bytearray(PAGE))

    def held(self, number):
        return bytes(self.pages.get(number, ZERO))

    def matches(self, number, found):
        """Whether the page may hold these bytes. What it is found to hold it does from now on, unless it may yet fade."""
        if number not in self.others:
            return found == self.held(number)
        good = found in (self.held(number), *map(bytes, self.others[number]))
        if good and (number not in self.fading or found == ZERO):
            self.pages[number] = bytearray(found)
            self.keep(number)
            self.others.pop(number)
        return good

    def fade(self, number):
        """Given up lazily."""
        self.fading.add(number)
        self.others.setdefault(number, []).append(bytearray(PAGE))

    def keep(self, number):
        self.fading.discard(number)

    def contents(self, number):
        """All that a page may hold, to be written to."""
        self.keep(number)
        return [self.page(number), *self.others.get(number, ())]

    def apply(self, batch, first, last):
        """Accesses first .. last - 1 have been done."""
        for page, op, source in zip(*(part[first:last].tolist() for part in batch), strict=True):
            if op == 1:
                self.sequence += 1
                tag = (self.vm.tag_base + self.sequence) % 2**31 or 1
                for content in self.contents(page):
                    content[word_of(page) : word_of(page) + 8] = tag.to_bytes(8, "little")
            elif op == 2:
                self.pages[page] = bytearray(CORPUS[source].tobytes())
                self.keep(page)
                self.others.pop(page, None)
            elif op >= 3 and self.guest is not False:
                self.pages.pop(page, None)
            elif op == 4:
                self.fade(page)

    def apply_writes(self, batches, writes):
        """So many writes of these batches have been done, and what lay between them."""
        for batch in batches:
            done = 0
            while writes > 0 and done < len(batch[0]):
                writes -= int(batch[1][done]) == 1
                done += 1
            self.apply(batch, 0, done)

    def put(self, address, data):
        """Bytes have been written."""
        while data:
            at = address % PAGE
            part = data[: PAGE - at]
            for content in self.contents(address // PAGE):
                content[at : at + len(part)] = part
            address, data = address + len(part), data[len(part) :]

    def copy(self, vm):
        twin = Shadow(vm, self.guest, self.settings)
        self.fading.clear()  # it keeps what two rely on
        twin.take(self)
        return twin

    def take(self, other):
        """Hold what the other does."""
        self.pages, self.sequence = {page: bytearray(data) for page, data in other.pages.items()}, other.sequence
        self.others = {page: [bytearray(data) for data in some] for page, some in other.others.items()}
        self.fading = set(other.fading)
