"""What is derived from run folders: figures, the report, comparisons, exports. All of it can be rebuilt."""
