"""Inputs that are given by a seed alone, tried one after another: what all fuzzers of these tests share.

A fuzzer is a module that makes a `Fuzz` of itself: `trying` sets up whatever its inputs need and gives a function of a
seed, which tries that input and says in counts what came of it; anything wrong escapes from it as an exception. Such a
module is used twice:

    Fuzz.run     so many seeds here and now, as every run of the tests does
    Fuzz.main    as many as there is time for: batches in processes of their own, so that a crash and an endless loop are
                 failures like any other; the seeds are printed, and each that failed is looked at by itself (`explain`)

What a seed came to must not depend on this process. So `main` tries each eighth batch twice, the second time with another
hash seed, and the digests of both must be equal.
"""

import argparse
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

MOST_FAILURES = 5
AGAIN = 8  # each so manieth batch is tried twice
SPARE_S = 60.0  # for a process to start, on a busy machine


@dataclass(frozen=True)
class Fuzz:
    script: str  # the file of the module, to be run as a program
    trying: Callable[[str], AbstractContextManager]  # profile -> a context that gives seed -> {what came: how often}
    seed: int  # the first one
    unit: str = "inputs"  # the count that says how much was done
    batch: int = 500  # seeds of a process
    each_s: float = 5.0  # of the processor, at most, for one seed
    profiles: tuple[str, ...] = ("",)
    explain: Callable[[str, int, Path], str] | None = None  # of a seed that failed, what to print

    def run(self, seeds, seconds, profile="", first=None, begun=lambda seed: None):
        """(Counter of what so many seeds came to, or as many as there is time for, and a digest of it). "slowest_ms" is
        the most of one. Whatever is wrong escapes, with the seed as a note."""
        counts, digest, end = Counter(), hashlib.sha256(), time.monotonic() + seconds
        first = self.seed if first is None else first
        with self.trying(profile) as one, no_longer_than(4 * self.each_s) as begin:
            for number in range(first, first + seeds):
                if time.monotonic() > end:
                    break
                begun(number)
                began = begin()
                try:
                    came = dict(one(number))
                except BaseException as error:
                    error.add_note(f"{Path(self.script).name}: profile '{profile}', seed {number}")
                    raise
                took = time.process_time() - began
                assert took < self.each_s, f"seed {number} took {took:.1f} s of the processor"
                digest.update(str(came.pop("digest", "")).encode())
                counts.update(came)
                counts["slowest_ms"] = max(counts["slowest_ms"], int(1000 * took))
        return counts, digest.hexdigest()

    def main(self, words=None):
        """The program; 0, or 1 if anything failed."""
        parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__.split("\n\n")[0])
        parser.add_argument(f"--{self.unit}", dest="most", type=int, default=1_000_000, help="of each profile, at most")
        parser.add_argument("--seconds", type=float, default=3600, help="all profiles together, at most")
        parser.add_argument("--seed", type=int, default=self.seed, help="the first one")
        parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
        parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="where explanations of failures go")
        parser.add_argument("--batch", nargs=3, help=argparse.SUPPRESS)
        if len(self.profiles) > 1:
            parser.add_argument("--profile", default=",".join(self.profiles), help="some of them, with commas between")
        asked = parser.parse_args(words)
        if asked.batch:
            return self._run_batch(asked.batch[0], int(asked.batch[1]), int(asked.batch[2]))
        chosen = asked.profile.split(",") if len(self.profiles) > 1 else self.profiles
        for name in chosen:
            if name not in self.profiles:
                parser.error(f"there is no profile '{name}'; choose from {', '.join(self.profiles)}")
        end, failures = time.monotonic() + asked.seconds, 0
        for number, profile in enumerate(chosen):
            failures += self._many(profile, asked, (end - time.monotonic()) / (len(chosen) - number))
        return 1 if failures else 0

    # ---- batches

    def _run_batch(self, profile, first, seeds):
        """In a process of its own: a line for each seed as it begins, and one for what they came to."""
        counts, digest = self.run(seeds, float("inf"), profile, first, lambda seed: print(seed, flush=True))
        print(json.dumps({"counts": counts, "digest": digest}), flush=True)
        return 0

    def _batch(self, profile, first, hash_seed="0"):
        """(counts, digest, None), or ({}, "", the seed that failed and what it said)."""
        command = [sys.executable, self.script, "--batch", profile, str(first), str(self.batch)]
        allowed = SPARE_S + 10 * self.each_s * (1 + self.batch / 10)  # of a machine that others use, too
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=allowed, env=environment)
            lines, error = done.stdout.splitlines(), done.stderr.strip().splitlines()
            if done.returncode == 0:
                told = json.loads(lines[-1])
                return Counter(told["counts"]), told["digest"], None
            said = next((line for line in reversed(error) if re.match(r"[\w.]+(: (?!profile)|$)", line)), "")
            said = said if done.returncode > 0 else f"ended by signal {-done.returncode}"
        except subprocess.TimeoutExpired as late:
            lines, said = (late.stdout or b"").decode().splitlines(), "it does not end"
        return Counter(), "", (int(lines[-1]) if lines else first, said)

    def _batch_and_again(self, profile, first, again):
        counts, digest, failed = self._batch(profile, first)
        if again and failed is None:
            _, other, failed = self._batch(profile, first, "1")
            if failed is None and other != digest:
                failed = first, "another process with another hash seed came to something else"
        return counts, failed

    def _many(self, profile, asked, seconds):
        """Batches until enough is done, or the time is over; how many seeds failed."""
        began, counts, failed, seed, batches = time.monotonic(), Counter(), [], asked.seed, 0
        with ThreadPoolExecutor(asked.jobs) as pool:
            running = set()
            while True:
                over = time.monotonic() - began > seconds or len(failed) >= MOST_FAILURES
                while not over and len(running) < asked.jobs and counts[self.unit] < asked.most:
                    running.add(pool.submit(self._batch_and_again, profile, seed, batches % AGAIN == AGAIN - 1))
                    seed, batches = seed + self.batch, batches + 1
                if not running:
                    break
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for came, wrong in (future.result() for future in ended):
                    slowest = max(came.pop("slowest_ms", 0), counts["slowest_ms"])
                    counts.update(came)
                    counts["slowest_ms"] = slowest
                    if wrong is not None:
                        failed.append(wrong)
                        self._tell(profile, f"seed {wrong[0]}: {wrong[1]}", end="\n")
                self._tell(
                    profile, f"seeds {asked.seed} to {seed - 1}: {counts_in_words(counts)}, {len(failed)} failed"
                )
        self._tell(profile, f"{time.monotonic() - began:.0f} s", end="\n")
        for number, said in failed:
            print(f"  seed {number}: {said}")
            if self.explain is not None:
                print(f"  {self.explain(profile, number, asked.out)}", flush=True)
        return len(failed)

    def _tell(self, profile, words, end=None):
        end = end or ("\r" if sys.stdout.isatty() else "\n")
        print(f"{profile + ': ' if profile else ''}{words}", end=end, flush=True)


def counts_in_words(counts):
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _endless(*_):
    raise AssertionError("it goes on and on")


@contextmanager
def no_longer_than(seconds):
    """Gives a function that begins to count processor time: AssertionError comes `seconds` later, if nobody begins
    again. It returns the time now."""

    def begin():
        signal.setitimer(signal.ITIMER_PROF, seconds)
        return time.process_time()

    before = signal.signal(signal.SIGPROF, _endless)
    try:
        yield begin
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
