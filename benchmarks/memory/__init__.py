"""What a run takes of memory and time, beside what its plan said before."""
