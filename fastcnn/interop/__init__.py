"""Exchange of models with other tools."""

from fastcnn.interop.c import export_c
from fastcnn.interop.html_page import export_html
from fastcnn.interop.numpy_source import export_numpy
from fastcnn.interop.onnx_export import export_onnx
from fastcnn.interop.onnx_import import import_onnx
from fastcnn.interop.torch_names import save_state
from fastcnn.layers.saved import load_state

__all__ = [
    "export_c",
    "export_html",
    "export_numpy",
    "export_onnx",
    "import_onnx",
    "load_state",
    "save_state",
]
