"""Train, search and compare encoding models: film in, BOLD out."""

import os

# On a CPU, tensors above 2 MB come from the system anew each time, which hands them out and clears
# them page by page: a third of a step, in pages of 4 KB. Torch reads this when it first allocates.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
