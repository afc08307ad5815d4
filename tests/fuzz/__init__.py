"""A fuzzer of the public face: random configurations times random operations, against a byte shadow.

    draws      what can be drawn: settings of hosts and VMs, operations, contents; all of it plain data
    shadow     what every page of every VM must hold
    world      carries an operation out on a host and its shadow, and says what must be true after each
    lockstep   the same on real bytes and on fingerprints, side by side
    episode    a configuration and its operations from a seed; what it came to; its digest
    shrink     the shortest episode that still fails, as a script

tests/fuzz_face.py runs them.
"""
