"""Small operations, each over whole arrays and, with the suffix ``_loops``, as loops."""
