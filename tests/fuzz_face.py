"""The public face against random use: nothing is lost and no promise is broken, whatever is done to a host.

    python -m pytest tests/test_face_fuzz.py                       some thousands of steps, as every run of the tests does
    python tests/fuzz_face.py [--profile P,Q] [--steps N] [--seconds S] [--jobs J] [--seed FIRST]

An episode is a host of random settings and STEPS random operations on it (see the package fuzz). Profiles: `plain`; `tiny`,
hosts of 4 to 60 frames; `faults`, stores that fail and frames that are refused at any call; `lockstep`, bytes and
fingerprints side by side; `signals`, a signal in the middle of each operation. A seed that fails is shrunk to a script.
"""

import json
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from fuzz import episode, shrink

from helpers.seeds import Fuzz

STEPS = 80  # of an episode
ALONE_S = 300  # for one episode to run by itself, sanitized too


@contextmanager
def trying(profile):
    yield lambda seed: episode.play(profile, *episode.drawn(profile, seed, STEPS))


def alone(profile, settings, operations):
    """ "" when the episode ends well in a process of its own, else the last line of what it said."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump([profile, settings, operations], file)
        file.flush()
        try:
            command = [sys.executable, __file__, "--play", file.name]
            done = subprocess.run(command, capture_output=True, text=True, timeout=ALONE_S)
        except subprocess.TimeoutExpired:
            return "it does not end"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode <= 0:
        return f"ended by signal {-done.returncode}" if done.returncode else ""
    return lines[-1]


def explain(profile, seed, folder):
    """The shortest script that fails as the seed does, written to the folder."""
    settings, operations = episode.drawn(profile, seed, STEPS)
    settings, operations, said = shrink.shrunk(settings, operations, lambda *less: alone(profile, *less))
    if not said:
        return "by itself it ends well"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{profile}-{seed}.py"
    path.write_text(shrink.script(profile, seed, settings, operations, said))
    return f"{said}\n  {path}: {len(operations)} operations"


FUZZ = Fuzz(
    script=__file__,
    trying=trying,
    seed=1,
    unit="steps",
    batch=200,
    each_s=120,  # where no page can go any more, each fault tries, and compresses, every one there is
    profiles=episode.PROFILES,
    explain=explain,
)

if __name__ == "__main__":
    if sys.argv[1:2] == ["--play"]:
        episode.play(*json.loads(Path(sys.argv[2]).read_text()), every=1)
    else:
        sys.exit(FUZZ.main())
