"""A demo dataset: songs composed, played and mixed by rule, so that every stage has something to work on."""

from fxnorm.demo.dataset import DEFAULT_SONGS, STYLES, render_dataset

__all__ = ["DEFAULT_SONGS", "STYLES", "render_dataset"]
