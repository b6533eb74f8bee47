"""Small operations: each over whole arrays and, with ``_loops`` after its name, as loops."""
