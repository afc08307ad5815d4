"""What is measured: name, unit, kind and meaning of every metric."""
