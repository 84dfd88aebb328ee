"""Sweeps: which settings to try, trials that share one copy of the data, and the best of them."""
