"""Trainings side by side: which is best, by how much, and which settings made it so."""
