"""Train the report's network, keep it, and run it elsewhere.

python docs/examples/train_and_deploy.py [FOLDER]
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import fastcnn
from fastcnn.interop import export_onnx, save_state


def main(folder: Path) -> None:
    train, test = fastcnn.data.load("digits012")  # drawn by fastcnn: no download
    model = fastcnn.models.report_cnn(seed=0)
    history = fastcnn.fit(model, train, test, epochs=3, out=folder / "run")
    print(f"test accuracy {history.final['test_accuracy']:.1%}, run in {folder / 'run'}")

    images = test.images[:100]
    expected = model.logits(images)

    # The weights under PyTorch's keys, for load_state_dict.
    save_state(model, folder / "report.safetensors")
    print(f"weights for PyTorch in {folder / 'report.safetensors'}")

    if find_spec("onnx") is None or find_spec("onnxruntime") is None:
        print("onnx or onnxruntime is not installed: pip install 'fastcnn[onnx]' onnxruntime")
        return
    import onnxruntime

    export_onnx(model, folder / "report.onnx")
    session = onnxruntime.InferenceSession(folder / "report.onnx")
    floats = images.astype(np.float32) / 255  # the file normalises them itself, as the model does
    (logits,) = session.run(None, {session.get_inputs()[0].name: floats})
    print(f"ONNX Runtime differs by {np.abs(logits - expected).max():.0e}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "deployed"))
