"""The shortest episode that still fails, found by leaving things out."""

SCRIPT = '''"""{said}

Found by: python tests/fuzz_face.py --profile {profile} --seed {seed}
Run it with PYTHONPATH=tests."""

from fuzz.episode import play

SETTINGS = {settings!r}
OPERATIONS = [
{operations}
]
play({profile!r}, SETTINGS, OPERATIONS, every=1)
'''


def shrunk(settings, operations, outcome, tries=300):
    """(settings, operations, what they say) of which nothing more can be left out, or patience is at its end.

    outcome(settings, operations) says what goes wrong, or ""; what stands before its colon must stay as it is.
    """
    said = outcome(settings, operations)
    kind = said.partition(":")[0]

    def fails(settings, operations):
        found = outcome(settings, operations)
        return found if found.partition(":")[0] == kind else ""

    size = max(1, len(operations) // 2) if said else 0
    while size and tries > 0:
        at = 0
        while at < len(operations) and tries > 0:
            less = operations[:at] + operations[at + size :]
            tries -= 1
            found = fails(settings, less) if less else ""
            if found:
                operations, said = less, found
            else:
                at += size
        size //= 2
    for name in [name for name in settings if said and name not in ("memory", "seed")]:
        less = {key: value for key, value in settings.items() if key != name}
        found = fails(less, operations)
        if found:
            settings, said = less, found
    return settings, operations, said


def script(profile, seed, settings, operations, said):
    """A program that fails so."""
    listed = "\n".join(f"    {operation!r}," for operation in operations)
    return SCRIPT.format(
        said=said.replace('"""', "'''"), profile=profile, seed=seed, settings=settings, operations=listed
    )
