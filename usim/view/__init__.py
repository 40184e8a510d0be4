"""Pictures and movies of frames: contact sheets, volumes in cuts, and what runs through time or slices."""

from usim.view.movie import movie
from usim.view.sheet import contact_sheet
from usim.view.volume import volume_sheet

__all__ = ["contact_sheet", "movie", "volume_sheet"]
