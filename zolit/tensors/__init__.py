"""The tensor that takes the place of a weight in a model: its reads, products and updates."""
