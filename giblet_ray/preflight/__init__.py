"""Says, before anything is booked or written, whether a job fits and what it will cost."""
