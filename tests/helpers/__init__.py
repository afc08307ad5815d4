"""What several tests share: a host with a shadow of its VMs, made records."""
