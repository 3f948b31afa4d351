"""Small worlds on grids, and what makes them fast side by side: few random words, single numbers, bits."""
