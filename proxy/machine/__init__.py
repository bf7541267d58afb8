"""One machine's processes: supervisor, workers, their journals and what the dead leave behind."""
