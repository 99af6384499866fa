"""Proposes eps and a learning rate, from what the loss of a recipe does along directions."""
