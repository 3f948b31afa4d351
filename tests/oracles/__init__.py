"""The shortest obviously right versions, in numpy float64, independent of the library."""
