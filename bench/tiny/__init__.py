"""C files of MLPerf Tiny's networks, next to onnx2c's and to TensorFlow Lite Micro."""
