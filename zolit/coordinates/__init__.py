"""The kinds of coordinates of a stored weight that a direction can move, one file each."""

from zolit.coordinates.elements import Elements
from zolit.coordinates.entries import Entries
from zolit.coordinates.low_rank import LowRank
from zolit.coordinates.output_scales import OutputScales
from zolit.coordinates.scales import Scales
from zolit.tensors.site import Coordinates, Extent, Moving, Site

__all__ = [
    "Coordinates",
    "Elements",
    "Entries",
    "Extent",
    "LowRank",
    "Moving",
    "OutputScales",
    "Scales",
    "Site",
]
