"""Files and directories, of a store or of anybody: made, written, read, synced. Knows no store."""
