"""What a run's folder holds: a typed record and its files, read and written in one place."""
