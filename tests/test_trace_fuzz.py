"""Some thousands of damaged trace files in every run of the tests; fuzz_traces.py does as many as one has time for."""

import fuzz_traces


def test_damaged_files_are_read_or_refused_in_words():
    counts, _ = fuzz_traces.FUZZ.run(4000, seconds=90)
    assert counts["inputs"] >= 1000  # a slow machine may run out of time
    assert min(counts["read"], counts["refused"]) >= 200  # neither everything nor nothing is damaged
