"""Datasets of finished or raw multitracks in their publishers' layouts, brought into the library's.

An importer of a kind reads a source's folders and metadata and returns a :class:`~fxnorm.data.importers.plan.Plan`:
which recordings of which files make which stem of which song, with which gain. It decodes and writes nothing. What is
common to all kinds, such as padding, sums, mono files, resuming and the provenance file, is done once, where plans are
written.
"""
