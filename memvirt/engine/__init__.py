"""The compiled engine. Its sources are in ext/memvirt/engine; users start from memvirt.Host."""
