"""The report of a run: one page for those who are to believe its numbers."""
