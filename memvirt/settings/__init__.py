"""Settings of a run: hosts, VMs, costs, options and presets, each constant with its source."""
