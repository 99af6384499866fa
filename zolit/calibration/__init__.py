"""What a calibration text shows of a model: its blocks are walked one at a time.

Nothing here holds the activations or the gradients of the whole model at once.
"""
