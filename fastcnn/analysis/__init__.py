"""Checks and analysis: gradient checks, comparison of backends, explanations, metrics, figures."""

from typing import TYPE_CHECKING

from fastcnn import door

if TYPE_CHECKING:
    from fastcnn.analysis.compare import Comparison as Comparison
    from fastcnn.analysis.compare import ComparisonRow as ComparisonRow
    from fastcnn.analysis.compare import compare_backends as compare_backends
    from fastcnn.analysis.explanations import Explanation as Explanation
    from fastcnn.analysis.explanations import explain as explain
    from fastcnn.analysis.explanations import explanation_figure as explanation_figure
    from fastcnn.analysis.explanations import fgsm as fgsm
    from fastcnn.analysis.explanations import grad_cam as grad_cam
    from fastcnn.analysis.explanations import occlusion as occlusion
    from fastcnn.analysis.explanations import saliency as saliency
    from fastcnn.analysis.figures import confusion_figure as confusion_figure
    from fastcnn.analysis.figures import mistakes_figure as mistakes_figure
    from fastcnn.analysis.figures import samples_figure as samples_figure
    from fastcnn.analysis.gradcheck import GradientReport as GradientReport
    from fastcnn.analysis.gradcheck import GradientRow as GradientRow
    from fastcnn.analysis.gradcheck import check_gradient as check_gradient
    from fastcnn.analysis.gradcheck import check_layer as check_layer
    from fastcnn.analysis.gradcheck import check_model as check_model
    from fastcnn.analysis.gradcheck import numerical_gradient as numerical_gradient
    from fastcnn.analysis.gradcheck import relative_error as relative_error
    from fastcnn.analysis.metrics import confusion_matrix as confusion_matrix
    from fastcnn.analysis.metrics import per_class as per_class
    from fastcnn.analysis.runs import RunComparison as RunComparison
    from fastcnn.analysis.runs import RunRow as RunRow
    from fastcnn.analysis.runs import compare_runs as compare_runs
else:
    __getattr__, __dir__, __all__ = door(
        __name__,
        {
            "compare": ("Comparison", "ComparisonRow", "compare_backends"),
            "explanations": (
                "Explanation",
                "explain",
                "explanation_figure",
                "fgsm",
                "grad_cam",
                "occlusion",
                "saliency",
            ),
            "figures": ("confusion_figure", "mistakes_figure", "samples_figure"),
            "gradcheck": (
                "GradientReport",
                "GradientRow",
                "check_gradient",
                "check_layer",
                "check_model",
                "numerical_gradient",
                "relative_error",
            ),
            "metrics": ("confusion_matrix", "per_class"),
            "runs": ("RunComparison", "RunRow", "compare_runs"),
        },
    )
