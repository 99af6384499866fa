"""Small grids of options, judged on validation rows; hopeless points are stopped early."""
