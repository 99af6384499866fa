"""Parts of zolit made from a configuration, which may be a stranger's."""
