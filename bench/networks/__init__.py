"""Well-known small networks, written in fastcnn and compared with PyTorch."""
