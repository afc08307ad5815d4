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

    def page(self, number):
        return self.pages.setdefault(number, bytearray(PAGE))

    def held(self, number):
        return bytes(self.pages.get(number, ZERO))

    def apply(self, batch, first, last):
        """Accesses first .. last - 1 have been done."""
        for page, op, source in zip(*(part[first:last].tolist() for part in batch), strict=True):
            if op == 1:
                self.sequence += 1
                tag = (self.vm.tag_base + self.sequence) % 2**31 or 1
                self.page(page)[word_of(page) : word_of(page) + 8] = tag.to_bytes(8, "little")
            elif op == 2:
                self.pages[page] = bytearray(CORPUS[source].tobytes())
            elif op == 3 and self.guest is not False:
                self.pages.pop(page, None)

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
            self.page(address // PAGE)[at : at + len(part)] = part
            address, data = address + len(part), data[len(part) :]

    def copy(self, vm):
        twin = Shadow(vm, self.guest, self.settings)
        twin.pages, twin.sequence = {page: bytearray(data) for page, data in self.pages.items()}, self.sequence
        return twin
