"""The daemon as the pipeline service sees it, and the records that it keeps there."""
