"""Training: one loop for all techniques that change weights. `options`, what users set, is free of torch."""
