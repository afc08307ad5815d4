"""README's ways to run many cells on many machines: the scripts parse, and their commands run as they are typed."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from memvirt.experiment import plan
from memvirt.results.run_folder import load, unfinished
from memvirt.results.shards import Shard

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BATCH = README[README.index("### Many cells") : README.index("## How it is built")]
SLURM = re.search(r"```sh\n(.*?)```", BATCH, re.DOTALL)[1]
MANIFEST = re.search(r"```yaml\n(.*?)```", BATCH, re.DOTALL)[1]
PARALLEL = re.search(r"^ +seq 64 \| parallel -j 4 (.*)$", BATCH, re.MULTILINE)[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a memvirt on PATH whose suites are small, which is all that is changed of it."""
    folder = tmp_path_factory.mktemp("batch")
    (folder / ".venv/bin").mkdir(parents=True)
    program = folder / ".venv/bin/memvirt"
    small = 'if [ "$1" = run ]; then set -- "$@" --tier smoke --preset zcache,all; fi\n'
    program.write_text(f'#!/bin/sh\n{small}exec {shlex.quote(sys.executable)} -m memvirt "$@"\n')
    program.chmod(0o755)
    (folder / ".venv/bin/activate").write_text(f"PATH={shlex.quote(str(program.parent))}:$PATH\n")
    return folder


def run(place, command, **variables):
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), "MEMVIRT_CACHE": str(place / "cache"), **variables}
    surroundings["PATH"] = f"{place / '.venv/bin'}:{surroundings['PATH']}"
    done = subprocess.run(command, cwd=place, env=surroundings, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


def test_the_slurm_script_is_what_it_is_said_to_be(place):
    (place / "part.sbatch").write_text(SLURM)
    run(place, ["bash", "-n", "part.sbatch"])
    lines = SLURM.strip().splitlines()
    assert lines[0].startswith("#!") and len(lines) == 8 and sum(line.startswith("#SBATCH ") for line in lines) == 5


def test_the_parts_run_as_typed_and_merge(place):
    yaml = pytest.importorskip("yaml")
    cells = plan.make("quick", "smoke", only=["zcache", "all"]).cells
    one, other, *more = [number for number in range(1, 65) if any(Shard(number, 64).holds(cell.name) for cell in cells)]
    third = next(number for number in more if number - 1 not in (one, other))  # its folder is named from 0 on
    (place / "part.sbatch").write_text(SLURM)
    run(place, ["sh", "part.sbatch"], SLURM_ARRAY_TASK_ID=str(one))
    run(place, ["sh", "-c", PARALLEL.replace("{}", str(other))])
    job = yaml.safe_load(MANIFEST)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert job["spec"]["completionMode"] == "Indexed" and job["spec"]["completions"] == 64
    words = [word.replace("/results/", f"{place}/results/") for word in container["command"]]
    run(place, words, JOB_COMPLETION_INDEX=str(third - 1))
    parts = [place / "results" / f"part-{number}" for number in (one, other, third - 1)]
    assert (parts[0] / "run.jsonl.gz").exists() and all(unfinished(part)[0] == 0 for part in parts)
    (merging,) = re.findall(r"^ +memvirt (merge .*?)  +#", BATCH, re.MULTILINE)
    run(place, ["sh", "-c", f"memvirt {merging}"])
    assert {record.cell for record in load(place / "results/whole")} == {
        record.cell for part in parts for record in load(part)
    }
