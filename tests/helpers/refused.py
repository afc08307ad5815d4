"""A machine that lacks something, made of this one: system calls are refused by a filter, as a container or an older kernel
refuses them. Run as a program: python -m helpers.refused CALL[:ADVICE]=ERRNO,... WORDS, which are memvirt's."""

import ctypes
import errno
import struct
import sys

CALLS = {"userfaultfd": 323, "madvise": 28, "memfd_create": 319}  # x86-64
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K
ERRNO, ALLOW = 0x00050000, 0x7FFF0000  # SECCOMP_RET_*
NO_NEW_PRIVS, SECCOMP = 38, 22  # prctl


def filtered(rules):
    """The filter's program: (call, third argument or None, errno) in order."""
    found = []
    for call, advice, number in rules:
        tests = [(0, call)] + ([] if advice is None else [(32, advice)])  # offsets in seccomp_data: nr, args[2]
        for left, (offset, value) in zip(range(len(tests), 0, -1), tests, strict=True):
            found += [(LOAD, 0, 0, offset), (EQUAL, 0, 2 * left - 1, value)]
        found.append((RETURN, 0, 0, ERRNO | number))
    return [*found, (RETURN, 0, 0, ALLOW)]


def refuse(rules):
    """This process and all that it starts are refused these calls from now on."""
    program = filtered(rules)
    text = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *line) for line in program))
    head = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(program), ctypes.addressof(text)))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((NO_NEW_PRIVS, 1, 0, 0, 0), (SECCOMP, 2, head, 0, 0)):
        if libc.prctl(*call):
            raise OSError(ctypes.get_errno(), "prctl")


def parsed(text):
    """Rules as a word says them."""
    for rule in text.split(","):
        name, _, number = rule.partition("=")
        call, _, advice = name.partition(":")
        yield CALLS[call], int(advice) if advice else None, getattr(errno, number)


if __name__ == "__main__":
    refuse(list(parsed(sys.argv[1])))
    sys.argv = ["memvirt", *sys.argv[2:]]
    from memvirt.cli import main

    main()
