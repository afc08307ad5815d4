"""Suites as small as can be, as TOML text: a host of 4 MiB, fleets of two VMs."""

import json


def scenario(name="u", ratios=(100,), measured='workload = "uniform", accesses = 500', warm_up="", fleet="", about="d"):
    """A scenario whose tables are given as TOML; `fleet` beyond two VMs of 2 MiB."""
    lines = ["[[scenarios]]", f'name = "{name}"', f'description = "{about}"', f"overcommit_percent = {list(ratios)}"]
    lines += [f"warm_up = {{ {warm_up} }}"] if warm_up else []
    lines += [f"measured = {{ {measured} }}", f'fleet = {{ vms = 2, memory = "2MiB"{fleet and ", " + fleet} }}']
    return "\n".join(lines)


def suite(*scenarios, name="one", presets=("swap",), swap="8MiB", more=""):
    """A suite of scenarios; `more` are further keys and tables of it."""
    lines = [
        "schema = 1",
        f'name = "{name}"',
        'title = "t"',
        'description = "d"',
        f"presets = {json.dumps(list(presets))}",
    ]
    return "\n".join([*lines, more, *scenarios, "[host]", 'memory = "4MiB"', f'swap = "{swap}"', ""])
