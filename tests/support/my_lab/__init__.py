"""A lab's own package, as docs/extending.md shows it."""
