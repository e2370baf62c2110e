"""Many runs: the grid of a sweep, its trials, and the engines that run them."""
