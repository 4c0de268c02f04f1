"""How fast is it, and how near to what the machine can do? `make bench` measures; RESULTS.md keeps what it found."""
