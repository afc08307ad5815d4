"""Page numbers of a trace, made dense."""
