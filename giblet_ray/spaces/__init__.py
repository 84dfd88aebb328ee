"""What the units of scans are: a file per kind of space, and how scans are read in them."""
