"""The host that owns all parts: its VMs, clones, the schedule of a run, and the recount of everything."""
