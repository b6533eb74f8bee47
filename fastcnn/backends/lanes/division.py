"""Dividing work among threads."""

from fastcnn.backends.lanes.late_codegen import linked


@linked
def share(units, part, parts):
    """First and last unit of a share."""
    return units * part // parts, units * (part + 1) // parts
