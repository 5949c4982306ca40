"""One small application, written once for each framework; `build` makes it for a world."""
