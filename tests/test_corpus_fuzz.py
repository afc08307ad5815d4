"""Some thousands of damaged dumps, corpora, fingerprints and models in every run of the tests; fuzz_corpora.py does more."""

import fuzz_corpora


def test_damaged_files_are_read_or_refused_in_a_sentence():
    counts, _ = fuzz_corpora.FUZZ.run(3000, seconds=60)
    assert counts["inputs"] >= 800  # a slow machine may run out of time
    assert min(counts["read"], counts["refused"]) >= 100  # neither everything nor nothing is damaged
