"""Models that are finished, stacked: a convex combination of their predictions, unit by unit."""
