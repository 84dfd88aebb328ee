"""Files of scans, and rows of units: what the units are, and how they go back to a file."""
