"""What memory a run needs, before anything is loaded."""
