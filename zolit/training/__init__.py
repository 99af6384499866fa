"""LightningModules: they load a model, take its steps, evaluate and save it."""
