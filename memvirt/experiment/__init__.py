"""From a suite to records: its scenarios, fleets and cells, and the loop that runs them."""
