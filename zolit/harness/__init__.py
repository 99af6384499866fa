"""A zolit model under lm-evaluation-harness; needs the extra ``eval``."""
