"""Train, search and compare encoding models: film in, BOLD out."""
