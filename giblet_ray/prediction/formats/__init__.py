"""Forms of others that predictions are written in, a file each, found by its name.

algonauts2025   the submission to the Algonauts challenge of 2025
"""
