"""Finished runs side by side: a line for each recipe, with its spread over seeds."""
