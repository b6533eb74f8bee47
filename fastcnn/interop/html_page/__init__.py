"""Trained networks as one offline page, in which they run."""

from fastcnn.interop.html_page.export import export_html

__all__ = ["export_html"]
