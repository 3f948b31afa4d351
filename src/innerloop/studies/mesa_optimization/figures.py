"""The figures of `mesa-optimization`: each makes a table from records and draws nothing but that table."""
FIGURES = ()
