"""Exchange of models with other tools."""

from fastcnn.interop.onnx_export import export_onnx
from fastcnn.interop.onnx_import import import_onnx
from fastcnn.interop.torch_names import save_state
from fastcnn.layers.saved import load_state

__all__ = ["export_onnx", "import_onnx", "load_state", "save_state"]
