"""What measures this project for its own pages; users have ``fastcnn bench`` and ``profile``."""
