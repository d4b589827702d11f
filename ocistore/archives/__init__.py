"""Archives as streams: tar read and written member by member, gzip and zstd bounded; nothing is ever extracted."""
