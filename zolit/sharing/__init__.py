"""A run as a small file for others who have its base model."""
