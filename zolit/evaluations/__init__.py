"""What is reported of a model on validation and test rows."""
