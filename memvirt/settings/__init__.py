"""What a run is told: hosts, VMs, costs, options and presets, each constant with its source."""
