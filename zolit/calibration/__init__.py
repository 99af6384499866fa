"""Runs a text through a model, to learn what its layers read and which weights the loss depends on.

The model is walked block by block, so that the activations or gradients of the whole model are
never in memory at once.
"""
