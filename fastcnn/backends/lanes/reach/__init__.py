"""How far the rows of each kernel reach, and the check that nothing leaves its arrays."""
