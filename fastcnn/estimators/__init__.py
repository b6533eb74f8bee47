"""scikit-learn estimators: networks in pipelines, cross-validation and grid search.

Needs the extra ``sklearn``: ``pip install 'fastcnn[sklearn]'``.
"""

from fastcnn.extras import require

require("sklearn", "sklearn")

from fastcnn.estimators.classifier import CNNClassifier  # noqa: E402
from fastcnn.estimators.regressor import CNNRegressor  # noqa: E402
from fastcnn.estimators.transformer import CNNTransformer  # noqa: E402

__all__ = ["CNNClassifier", "CNNRegressor", "CNNTransformer"]
