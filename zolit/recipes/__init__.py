"""Makes parts of zolit from a configuration that may come from a stranger."""
