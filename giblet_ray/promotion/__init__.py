"""Making a run's best model the one that others use."""
