"""This machine's own kernel as a host: processes stand for VMs, their anonymous memory for guest memory.

    kernel    what is read from /proc and /sys, and why something cannot be had (Missing)
    undo      every change of this machine is written down before it is made, and undone come what may
    tenant    a process that stands for a VM: its memory, driven access by access (memory: the compiled part)
    ways      three mixes of contents by two orders, in which what must be exact is counted
    counting  what any user can count: first touch, copy-on-write, release
    userfault the engine's policies on real frames, by userfaultfd (governed: the compiled part); governing: its stories
    costs     what this machine takes for what the engine has costs for (timed: the compiled part); disk: a disk's
    ksm       page sharing, pass by pass (as root, as all below)
    areas     swap areas of our own: a file, a zram device; the compressed cache in front of a file
    groups    a control group of our own, with a limit on its memory
    swap      all that leaves memory, and all that comes back
    loads     accesses that are given to both sides: generated, or a trace's
    limits    a group with a limit beside hosts of the engine that have as many frames
    grid      many loads over every device, beside every order; which device is the faster one
    pressure  the engine's pressure beside the kernel's own (PSI)
    pricing   cost beside cost, and which of two ways is faster

Every module measures the kernel and an engine's host with the same accesses, and says both as rows (memvirt.backends.rows).
"""
