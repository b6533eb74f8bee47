"""A network as one HTML file in which it runs."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from fastcnn.errors import ConfigurationError, DataError
from fastcnn.files import atomic_write, expanded
from fastcnn.interop.html_page.drawing import drawing_page, part, title_of
from fastcnn.interop.html_page.javascript import as_json, network_code
from fastcnn.interop.inference_plan import gives_classes, make_plan, names_of_classes
from fastcnn.layers import Model


def export_html(
    model: Model,
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    title: str | None = None,
    is_classifier: bool | None = None,
) -> Path:
    """Write a network as one offline page for drawing or dropping pictures.

    The network runs in the page, in plain JavaScript; the page makes no requests, and its content
    security policy allows none. Pictures are converted by the model's preprocessing, as in
    ``fastcnn predict``: the same pixels give the same sample. Pixels depend on the browser's
    decoder: JPEG files may differ by a few levels, and high-depth or transparent pictures by one.
    Outputs of all layers are shown, with batch normalisation folded into the layers before it.

    Parameters
    ----------
    model : Model
        A model with pictures as input. Not changed.
    path : path
        File to write, such as ``digit.html``.
    classes : sequence of str, optional
        Names of the classes; by default their indices.
    title : str, optional
        By default ``Draw a digit`` or ``Draw or drop a picture``.
    is_classifier : bool, optional
        Whether the outputs are logits, of which the page shows the softmax; otherwise they are
        shown unchanged. By default according to ``model.predicts``.

    Returns
    -------
    Path

    Raises
    ------
    ConfigurationError
        If a layer cannot be computed one sample at a time, or the number of ``classes`` differs
        from that of the outputs.
    DataError
        If the network's input cannot be a picture.
    NonFiniteError
        If a weight is NaN or infinite.
    ShapeError
        If the model's input shape is unknown.
    OSError
        If the file cannot be written.
    """
    path = expanded(path)
    plan = make_plan(model, input_in_memory=False)
    rule = model.preprocessing.rule_for_pictures(plan.input_shape)
    if rule.shape != plan.input_shape:
        raise DataError(
            f"the network takes {plan.input_shape}, its preprocessing makes pictures of shape "
            f"{rule.shape}"
        )
    shape = model.graph().output_shape
    if is_classifier is None:
        is_classifier = gives_classes(model)
    elif is_classifier and len(shape) != 1:
        raise ConfigurationError(
            f"is_classifier: the network gives arrays of shape {shape}, not one number for each "
            "class"
        )
    if is_classifier:
        classes = names_of_classes(range(shape[0]) if classes is None else classes, shape[0])
    else:
        classes = ()
    result = "classes" if is_classifier else "values" if len(shape) == 1 else "map"
    scale, shift = model.preprocessing.factors(True, plan.channels)
    facts = {
        "classes": classes,
        "shape": rule.shape,
        "result": result,
        "softmax": is_classifier and not plan.gives_probabilities,
        "pictures": rule.to_dict(),
        "scale": scale.tolist(),
        "shift": shift.tolist(),
    }
    code, weights = network_code(plan)
    network = "\n".join(
        ('\n"use strict";\n', f"const MODEL = {as_json(facts)};\n", code, part("loops.js"),
         part("pictures.js"))
    )  # fmt: skip
    app = "\n".join(('\n"use strict";\n', part("page.js"), part("network.js")))
    style = f"\n{part('style.css')}"
    numbers = base64.encodebytes(b"".join(values.tobytes() for values in weights.values())).decode()
    policy = (
        "default-src 'none'",
        f"script-src {_hashed(network)} {_hashed(app)}",
        f"style-src {_hashed(style)}",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    )
    page = drawing_page(
        rule,
        classes,
        model.num_parameters,
        title=title_of(rule, classes) if title is None else title,
        policy=f'<meta http-equiv="Content-Security-Policy" content="{"; ".join(policy)}">',
        style=f"<style>{style}</style>",
        scripts=f'<script id="weights" type="text/plain">\n{numbers}</script>\n'
        f"<script>{network}</script>\n<script>{app}</script>",
        footer="The network runs in this page. Nothing is sent, and no connection is needed.",
    )
    atomic_write(path, page.encode())
    return path


def _hashed(text: str) -> str:
    """The hash by which a content security policy allows this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
