"""The memory that each kernel's rows access, and the check that it is inside their arrays."""
